#include <fcntl.h>
#include <sys/stat.h>

#include "daemon/link_watch.h"
#include "session_fixture.h"

namespace flexins::daemon {
namespace {

TEST_F(SessionTest, ARegionIsChangedInPlace) {
  open_session();
  const uint32_t pd = make_pd();
  const auto head = registration(pd);
  ASSERT_EQ(call(head, registration_bytes(1), one_object()).status, 0);
  ReregisterMrRequest change{};
  change.key = answer<RegisterMrReply>().key;
  change.changes = kChangeTranslation | kChangeAccess;
  change.region = head;
  const size_t bytes = offsetof(ReregisterMrRequest, region) + registration_bytes(1);
  EXPECT_EQ(call(change, bytes, one_object()).status, 0);
  EXPECT_EQ(call(change, bytes).status, EINVAL) << "a segment without its object";
  EXPECT_EQ(call(change, bytes - 8, one_object()).status, EINVAL);
  EXPECT_EQ(call(change, 20).status, EINVAL);
  change.changes = kChangePd;
  EXPECT_EQ(call(change, bytes, one_object()).status, 0);
  change.changes = 8;
  EXPECT_EQ(call(change, bytes, one_object()).status, EINVAL);
  change.changes = kChangePd;
  change.key = 999;
  EXPECT_EQ(call(change, bytes, one_object()).status, ENOENT);
}

TEST_F(SessionTest, DeviceMemoryStaysWhileRegionsUseIt) {
  open_session();
  const uint32_t pd = make_pd();
  AllocateDmRequest allocate{};
  allocate.length = 4096;
  ASSERT_EQ(call(allocate).status, 0);
  EXPECT_EQ(received_.fds.size(), 1u);
  const uint32_t dm = answer<AllocateDmReply>().dm;
  RegisterDmMrRequest region{};
  region.dm = dm;
  region.pd = pd;
  region.length = 4096;
  region.access = base::kAccessLocalWrite | base::kAccessZeroBased;
  ASSERT_EQ(call(region).status, 0);
  region.offset = 1;
  EXPECT_EQ(call(region).status, EINVAL);
  region.offset = 0;
  region.access |= base::kAccessOnDemand;
  EXPECT_EQ(call(region).status, EINVAL);
  FreeDmRequest free{};
  free.dm = dm;
  EXPECT_EQ(call(free).status, EBUSY);
  engine_.region = {};
  EXPECT_EQ(call(free).status, 0);
  EXPECT_EQ(call(free).status, ENOENT);
  allocate.length = kMaxDeviceMemoryBytes + 1;
  EXPECT_EQ(call(allocate).status, EINVAL);
  allocate.length = 0;
  EXPECT_EQ(call(allocate).status, EINVAL);
}

TEST_F(SessionTest, NullRegionsCountAsRegions) {
  open_session();
  AllocateNullMrRequest request{};
  request.pd = make_pd();
  EXPECT_EQ(call(request).status, 0);
  EXPECT_EQ(engine_.region.length, UINT64_MAX);
  request.pd = 12345;
  EXPECT_EQ(call(request).status, ENOENT);
}

TEST_F(SessionTest, ImportsAreOfContextsOfTheSameUser) {
  open_session();
  ImportPdRequest import{};
  import.owner = 4711;
  import.pd = make_pd();
  EXPECT_EQ(call(import).status, ENOENT);
  ImportDmRequest memory{};
  memory.dm = 1;
  EXPECT_EQ(call(memory).status, ENOENT);
}

TEST_F(SessionTest, ACompletionQueueGetsAnotherRing) {
  open_session();
  ResizeCqRequest resize{};
  resize.cq = make_cq(16);
  resize.depth = 100;
  EXPECT_EQ(call(resize).status, 0);
  EXPECT_EQ(answer<ResizeCqReply>().depth, 128u);
  EXPECT_EQ(received_.fds.size(), 1u);
  resize.wanted = 200;
  EXPECT_EQ(call(resize).status, EINVAL);
  resize.wanted = 1;
  resize.depth = 0;
  EXPECT_EQ(call(resize).status, EINVAL);
  resize.depth = base::Limits::kMaxCqe + 1;
  EXPECT_EQ(call(resize).status, EINVAL);
  resize.cq += 1;
  resize.depth = 16;
  EXPECT_EQ(call(resize).status, ENOENT);
}

TEST_F(SessionTest, ASharedReceiveQueueGetsAnotherRing) {
  open_session();
  CreateSrqRequest create{};
  create.pd = make_pd();
  create.max_wr = 16;
  create.max_sge = 1;
  ASSERT_EQ(call(create).status, 0);
  ResizeSrqRequest resize{};
  resize.srq = answer<CreateSrqReply>().srq;
  resize.max_wr = 100;
  EXPECT_EQ(call(resize).status, 0);
  EXPECT_EQ(answer<ResizeSrqReply>().depth, 128u);
  EXPECT_EQ(received_.fds.size(), 1u);
  resize.max_wr = 0;
  EXPECT_EQ(call(resize).status, EINVAL);
  resize.max_wr = base::Limits::kMaxSrqWr + 1;
  EXPECT_EQ(call(resize).status, EINVAL);
  resize.srq += 1;
  resize.max_wr = 16;
  EXPECT_EQ(call(resize).status, ENOENT);
}

TEST_F(SessionTest, CountersAreReadByTheirNumber) {
  open_session();
  ASSERT_EQ(call(CreateCountersRequest{}).status, 0);
  ReadCountersRequest read{};
  read.counters = answer<CreateCountersReply>().counters;
  ASSERT_EQ(call(read).status, 0);
  EXPECT_EQ(answer<ReadCountersReply>().counts.bytes, 200u);
  DestroyCountersRequest destroy{};
  destroy.counters = read.counters;
  EXPECT_EQ(call(destroy).status, 0);
  EXPECT_EQ(call(destroy).status, ENOENT);
  EXPECT_EQ(call(read).status, ENOENT);
}

TEST_F(SessionTest, WhoDestroysLearnsHowManyEventsWereRead) {
  open_session();
  CreateSrqRequest create_srq{};
  create_srq.pd = make_pd();
  create_srq.max_wr = create_srq.max_sge = 1;
  ASSERT_EQ(call(create_srq).status, 0);
  const uint32_t srq = answer<CreateSrqReply>().srq;
  const uint32_t cq = make_cq(4);
  CreateQpRequest create_qp{};
  create_qp.type = static_cast<uint8_t>(base::QpType::kReliable);
  create_qp.max_receive_wr = create_qp.max_receive_sge = 1;
  ASSERT_EQ(call(create_qp).status, 0);
  const uint32_t qpn = answer<CreateQpReply>().qpn;
  engine_.events_read = {3, 5};
  const auto expect = [this](const auto& request) {
    EXPECT_EQ(call(request).status, 0);
    const auto reply = answer<DestroyReply>();
    EXPECT_EQ(reply.completion_events, 3u);
    EXPECT_EQ(reply.async_events, 5u);
  };
  expect(DestroySrqRequest{{}, srq, 0});
  expect(DestroyCqRequest{{}, cq, 0});
  expect(DestroyQpRequest{{}, qpn, 0});
}

TEST_F(SessionTest, TablesComeWithTheLengthThatTheySay) {
  open_session();
  CreateSpreadTableRequest table{};
  table.queue_count = 2;
  const size_t bytes = offsetof(CreateSpreadTableRequest, queues) + 2 * sizeof table.queues[0];
  EXPECT_EQ(call(table, bytes - 4).status, EINVAL);
  EXPECT_EQ(call(table, bytes + 4).status, EINVAL);
  EXPECT_EQ(call(table, 20).status, EINVAL);
  EXPECT_EQ(call(table, bytes).status, ENOENT) << "no such queues";
  table.queue_count = UINT32_MAX;
  EXPECT_EQ(call(table, bytes).status, EINVAL);
  table.queue_count = 0;
  ASSERT_EQ(call(table, offsetof(CreateSpreadTableRequest, queues)).status, 0);
  CreateSpreadingQpRequest qp{};
  qp.table = answer<CreateSpreadTableReply>().table;
  qp.hash.fields = 1u << 31;
  EXPECT_EQ(call(qp).status, EINVAL);
  qp.hash.fields = base::kHashSourceIpv4;
  EXPECT_EQ(call(qp).status, 0);
  DestroySpreadTableRequest destroy{};
  destroy.table = qp.table;
  EXPECT_EQ(call(destroy).status, 0);
  EXPECT_EQ(call(destroy).status, ENOENT);
}

TEST_F(SessionTest, ADomainIsNamedByTheInodeOfItsFile) {
  open_session();
  const auto file = one_object();
  struct stat facts {};
  ASSERT_EQ(::fstat(file[0].get(), &facts), 0);
  OpenXrcdRequest open{};
  open.create = 1;
  ASSERT_EQ(call(open, sizeof open, file).status, 0);
  const uint32_t xrcd = answer<OpenXrcdReply>().xrcd;
  ASSERT_TRUE(engine_.opened_xrcd.file.has_value());
  EXPECT_EQ(engine_.opened_xrcd.file->inode, facts.st_ino);
  EXPECT_TRUE(engine_.opened_xrcd.create);
  EXPECT_FALSE(engine_.opened_xrcd.exclusive);
  open.exclusive = 1;
  ASSERT_EQ(call(open).status, 0);
  EXPECT_FALSE(engine_.opened_xrcd.file.has_value());
  EXPECT_TRUE(engine_.opened_xrcd.exclusive);
  EXPECT_EQ(server_.tenants().all().begin()->second.xrcds, 2u);

  OpenQpRequest target{};
  target.xrcd = xrcd;
  target.qpn = 4711;
  EXPECT_EQ(call(target).status, 0);
  EXPECT_EQ(server_.tenants().all().begin()->second.qps, 1u);
  CloseQpRequest close_target{};
  close_target.qpn = 4711;
  EXPECT_EQ(call(close_target).status, 0);
  EXPECT_EQ(call(close_target).status, ENOENT);
  EXPECT_EQ(server_.tenants().all().begin()->second.qps, 0u);
  CloseXrcdRequest close{};
  close.xrcd = xrcd;
  EXPECT_EQ(call(close).status, 0);
  EXPECT_EQ(call(close).status, ENOENT);
  client_.reset();
  loop_.run_once(base::kSecond);
  EXPECT_EQ(server_.tenants().all().begin()->second, TenantUse{});
}

TEST_F(SessionTest, NotEveryDescriptorNamesADomain) {
  open_session();
  OpenXrcdRequest open{};
  open.create = 1;
  const auto status_with = [&](int fd) {
    std::vector<base::UniqueFd> fds;
    fds.emplace_back(fd);
    return call(open, sizeof open, fds).status;
  };
  // No right to the file is needed to have this one.
  EXPECT_EQ(status_with(::open("/", O_PATH | O_CLOEXEC)), EBADF);
  // Its own session: that would keep it open for ever.
  EXPECT_EQ(status_with(::dup(client_.get())), EINVAL);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const base::UniqueFd other(ends[1]);
  EXPECT_EQ(status_with(ends[0]), EINVAL);
  EXPECT_EQ(status_with(::open("/", O_RDONLY | O_CLOEXEC)), 0);
}

TEST(LinkEvents, SayWhatHasChanged) {
  const LinkState up{true, 3}, down{false, 3}, fewer{true, 1};
  EXPECT_TRUE(link_events(up, up).empty());
  EXPECT_EQ(link_events(up, down), std::vector{base::AsyncEvent::kPortError});
  EXPECT_EQ(link_events(down, up), std::vector{base::AsyncEvent::kPortActive});
  EXPECT_EQ(link_events(up, fewer), std::vector{base::AsyncEvent::kGidChange});
}

}  // namespace
}  // namespace flexins::daemon
