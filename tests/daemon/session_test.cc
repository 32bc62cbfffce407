#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <random>

#include "daemon/engine_dir.h"
#include "daemon/message_socket.h"
#include "daemon/session_server.h"
#include "session_fixture.h"

namespace flexins::daemon {
namespace {

TEST_F(SessionTest, HelloBringsSealedMemoryAndEvents) {
  open_session();
  const auto reply = answer<HelloReply>();
  EXPECT_EQ(reply.engine_incarnation, 42u);
  EXPECT_EQ(reply.engine_pid, static_cast<uint32_t>(::getpid()));
  ASSERT_EQ(received_.fds.size(), 4u);
  for (const size_t memory : {0u, 3u}) {
    const int seals = ::fcntl(received_.fds[memory].get(), F_GET_SEALS);
    EXPECT_EQ(seals, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    EXPECT_NE(::ftruncate(received_.fds[memory].get(), 0), 0);
  }
  const auto context = base::ContextId{reply.context};
  worker_.call([&](engine::Engine&) {
    engine_.contexts.at(context.value).events->async_event(7, base::AsyncEvent::kQpFatal);
  });
  struct {
    uint64_t element;
    uint32_t type, reserved;
  } event{};
  ASSERT_EQ(::read(received_.fds[2].get(), &event, sizeof event), 16);
  EXPECT_EQ(event.element, 7u);
  EXPECT_EQ(event.type, 1u);
  server_.for_each([](const Session& session) { EXPECT_EQ(session.program(), "test?[2J"); });
}

TEST_F(SessionTest, OtherVersionsAndStrangersAreTold) {
  HelloRequest hello = good_hello();
  hello.protocol_version = kProtocolVersion + 1;
  EXPECT_EQ(call(hello).status, EPROTONOSUPPORT);
  EXPECT_EQ(answer<HelloReply>().protocol_version, kProtocolVersion);
  hello = good_hello();
  hello.magic = 1;
  EXPECT_EQ(call(hello).status, EPROTO);
  EXPECT_EQ(call(AllocatePdRequest{}).status, EPROTO);  // before a Hello
  open_session();                                       // all that closed nothing
  EXPECT_EQ(call(good_hello()).status, EINVAL);
}

TEST_F(SessionTest, AMemoryDescriptorThatIsNoneIsRefused) {
  EXPECT_EQ(call(good_hello(), sizeof(HelloRequest), one_object()).status, EINVAL);
  EXPECT_TRUE(engine_.contexts.empty());
}

TEST_F(SessionTest, GarbageIsAnsweredAndClosesNothing) {
  open_session();
  const std::byte tiny[3] = {};
  EXPECT_EQ(exchange(tiny).status, EINVAL);
  MessageHeader unknown{999, 0, sizeof unknown, 5, 0};
  EXPECT_EQ(exchange(std::as_bytes(std::span(&unknown, 1))).status, EINVAL);
  EXPECT_EQ(call(CreateQpRequest{}, sizeof(MessageHeader)).status, EINVAL);
  std::mt19937 random(1);
  std::vector<std::byte> noise;
  for (int round = 0; round < 2000; ++round) {
    noise.resize(1 + random() % 600);
    for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
    if (noise.size() >= sizeof(MessageHeader)) {
      MessageHeader header{static_cast<uint16_t>(random() % 40), 0,
                           static_cast<uint32_t>(noise.size()), 0, 0};
      std::memcpy(noise.data(), &header, sizeof header);
    }
    exchange(noise);
  }
  make_pd();
  EXPECT_EQ(server_.size(), 1u);
}

TEST_F(SessionTest, TooLongMessagesAreRefused) {
  open_session();
  const std::vector<std::byte> long_message(kMaxMessageBytes + 1);
  EXPECT_EQ(exchange(long_message).status, EINVAL);
  make_pd();
}

TEST_F(SessionTest, ObjectsLiveAndDie) {
  open_session();
  const uint32_t pd = make_pd();
  EXPECT_EQ(call(CreateChannelRequest{}).status, 0);
  const auto channel = answer<CreateChannelReply>().channel;
  const base::UniqueFd channel_fd = std::move(received_.fds.at(0));
  const uint32_t cq = make_cq(100);
  EXPECT_EQ(answer<CreateCqReply>().depth, 128u);
  CreateQpRequest create{};
  create.pd = pd;
  create.send_cq = create.receive_cq = cq;
  create.type = 2;
  create.max_receive_wr = 33;
  create.max_receive_sge = 3;
  EXPECT_EQ(call(create).status, 0);
  EXPECT_EQ(answer<CreateQpReply>().receive_depth, 64u);
  const uint32_t qpn = answer<CreateQpReply>().qpn;

  EXPECT_EQ(call(registration(pd), registration_bytes(1), one_object()).status, 0);
  EXPECT_EQ(windows_.segments, 1u);
  EXPECT_EQ(engine_.region.length, 0x2000u);
  const uint32_t key = answer<RegisterMrReply>().key;

  EXPECT_EQ(call(DestroyQpRequest{{}, qpn, 0}).status, 0);
  EXPECT_EQ(call(DestroyQpRequest{{}, qpn, 0}).status, ENOENT);
  EXPECT_EQ(call(DestroyCqRequest{{}, cq, 0}).status, 0);
  EXPECT_EQ(call(DeregisterMrRequest{{}, key, 0}).status, 0);
  EXPECT_EQ(call(DestroyChannelRequest{{}, channel, 0}).status, 0);
  char byte;
  EXPECT_EQ(::read(channel_fd.get(), &byte, 1), 0);  // the end
  EXPECT_EQ(call(FreePdRequest{{}, pd, 0}).status, 0);
  TenantUse left = server_.tenants().all().at(::geteuid());
  EXPECT_EQ(left.sessions, 1u);
  EXPECT_LT(left.ring_bytes, 2 * pipe::submission_ring_bytes());
  left.sessions = 0;
  left.ring_bytes = 0;
  left.contexts.clear();  // the session's own
  EXPECT_EQ(left, TenantUse{});
}

TEST_F(SessionTest, SharedReceiveQueuesAndMemoryWindowsLiveAndDie) {
  open_session();
  const uint32_t pd = make_pd();
  const uint32_t cq = make_cq(16);
  CreateSrqRequest create{};
  create.pd = pd;
  create.max_wr = 33;
  create.max_sge = 3;
  EXPECT_EQ(call(create).status, 0);
  EXPECT_EQ(received_.fds.size(), 1u);
  EXPECT_EQ(answer<CreateSrqReply>().depth, 64u);
  const uint32_t srq = answer<CreateSrqReply>().srq;
  create.max_wr = 0;
  EXPECT_EQ(call(create).status, EINVAL);
  create.max_wr = base::Limits::kMaxSrqWr + 1;
  EXPECT_EQ(call(create).status, EINVAL);
  create.max_wr = 1;
  create.max_sge = base::Limits::kMaxSge + 1;
  EXPECT_EQ(call(create).status, EINVAL);
  EXPECT_EQ(call(ModifySrqRequest{{}, srq, 7}).status, 0);
  EXPECT_EQ(call(QuerySrqRequest{{}, srq, 0}).status, 0);
  EXPECT_EQ(answer<QuerySrqReply>().limit, 7u);
  EXPECT_EQ(call(ModifySrqRequest{{}, srq + 100, 7}).status, ENOENT);

  CreateQpRequest qp{};
  qp.pd = pd;
  qp.send_cq = qp.receive_cq = cq;
  qp.type = 2;
  qp.srq = srq;
  EXPECT_EQ(call(qp).status, 0);
  EXPECT_TRUE(received_.fds.empty()) << "no ring of its own";
  EXPECT_EQ(call(DestroyQpRequest{{}, answer<CreateQpReply>().qpn, 0}).status, 0);
  EXPECT_EQ(call(DestroySrqRequest{{}, srq, 0}).status, 0);
  EXPECT_EQ(call(DestroySrqRequest{{}, srq, 0}).status, ENOENT);

  AllocateMwRequest window{};
  window.pd = pd;
  window.type = 3;
  EXPECT_EQ(call(window).status, EINVAL);
  window.type = 2;
  EXPECT_EQ(call(window).status, 0);
  const uint32_t key = answer<AllocateMwReply>().key;
  EXPECT_EQ(call(FreeMwRequest{{}, key, 0}).status, 0);
  EXPECT_EQ(call(FreeMwRequest{{}, key, 0}).status, ENOENT);
  const TenantUse left = server_.tenants().all().at(::geteuid());
  EXPECT_EQ(left.srqs, 0u);
  EXPECT_EQ(left.windows, 0u);
  EXPECT_EQ(left.qps, 0u);
}

TEST_F(SessionTest, ClosingTheSocketFreesAll) {
  open_session();
  const uint32_t pd = make_pd();
  make_cq(8);
  EXPECT_EQ(call(registration(pd), registration_bytes(1), one_object()).status, 0);
  EXPECT_EQ(call(CreateChannelRequest{}).status, 0);
  client_.reset();
  loop_.run_once(base::kSecond);
  EXPECT_EQ(server_.size(), 0u);
  EXPECT_TRUE(engine_.contexts.empty());
  EXPECT_EQ(server_.tenants().all().at(::geteuid()), TenantUse{});
}

TEST_F(SessionTest, BadRegistrationsAreRefused) {
  open_session();
  const uint32_t pd = make_pd();
  RegisterMrRequest request = registration(pd);
  EXPECT_EQ(call(request, registration_bytes(1)).status, EINVAL);  // no descriptor came along
  request.segment_count = 2;
  EXPECT_EQ(call(request, registration_bytes(1), one_object()).status, EINVAL);
  request = registration(pd);
  request.segments[0].kind = 2;
  EXPECT_EQ(call(request, registration_bytes(1), one_object()).status, EINVAL);
  request = registration(pd);
  request.length = UINT64_MAX;
  EXPECT_EQ(call(request, registration_bytes(1), one_object()).status, EINVAL);
  request = registration(pd);
  request.access = base::kAccessRemoteWrite;
  EXPECT_EQ(call(request, registration_bytes(1), one_object()).status, EINVAL);
  request = registration(pd);
  request.length = 0x3000;  // the last page is reached by nothing
  EXPECT_EQ(call(request, registration_bytes(1), one_object()).status, EOPNOTSUPP);
  EXPECT_EQ(call(registration(pd + 100), registration_bytes(1), one_object()).status, ENOENT);
  EXPECT_EQ(server_.tenants().all().at(::geteuid()).regions, 0u);
}

TEST_F(SessionTest, LimitsAreKept) {
  environment_.limits.cqs_max = 2;
  environment_.limits.ring_bytes_max = 8 << 20;
  open_session();
  make_cq(1);
  make_cq(1);
  CreateCqRequest request{};
  request.depth = 1;
  EXPECT_EQ(call(request).status, ENOMEM);
  request.depth = 0;
  EXPECT_EQ(call(request).status, EINVAL);
  environment_.limits.cqs_max = 100;
  request.depth = base::Limits::kMaxCqe;  // 64 MiB of ring
  EXPECT_EQ(call(request).status, ENOMEM);
  CreateQpRequest qp{};
  qp.type = 2;
  qp.max_send_sge = base::Limits::kMaxSge + 1;
  EXPECT_EQ(call(qp).status, EINVAL);
  for (uint32_t ring = 1; ring < pipe::kMaxSubmissionRings; ++ring) {
    EXPECT_EQ(call(CreateSubmissionRingRequest{}).status, 0);
    EXPECT_EQ(answer<CreateSubmissionRingReply>().ring, ring);
  }
  EXPECT_EQ(call(CreateSubmissionRingRequest{}).status, ENOSPC);
}

TEST_F(SessionTest, TooManySessionsAreTurnedAway) {
  std::vector<base::UniqueFd> others;
  for (int i = 0; i < 5; ++i) others.push_back(connect());
  EXPECT_EQ(server_.size(), 4u);
  std::byte byte;
  EXPECT_EQ(receive_message(others.back().get(), {&byte, 1}).status, ReceiveStatus::kClosed);
}

TEST_F(SessionTest, ANewEntryWakesASleepingWorker) {
  open_session();
  const base::UniqueFd page_fd = std::move(received_.fds[0]);
  const base::UniqueFd wake_fd = std::move(received_.fds[1]);
  void* at =
      ::mmap(nullptr, sizeof(pipe::WakePage), PROT_READ | PROT_WRITE, MAP_SHARED, page_fd.get(), 0);
  ASSERT_NE(at, MAP_FAILED);
  auto* page = static_cast<pipe::WakePage*>(at);
  for (int round = 0; round < 20; ++round) {
    while (page->need_wakeup.load() == 0) ::usleep(100);
    const uint64_t before = engine_.steps.load();
    const uint64_t one = 1;
    ASSERT_EQ(::write(wake_fd.get(), &one, sizeof one), 8);
    while (engine_.steps.load() == before) ::usleep(100);
  }
  ::munmap(at, sizeof(pipe::WakePage));
}

}  // namespace
}  // namespace flexins::daemon
