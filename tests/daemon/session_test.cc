#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <random>

#include "daemon/engine_dir.h"
#include "daemon/link_watch.h"
#include "daemon/message_socket.h"
#include "daemon/session_server.h"
#include "fake_engine.h"

namespace flexins::daemon {
namespace {

using namespace flexins::protocol;

/// A window onto nothing.
class NoWindow final : public memory::Window {
 public:
  memory::Extent resolve(uint64_t, uint64_t length) noexcept override { return {nullptr, length}; }
  bool read(uint64_t, std::span<std::byte>) noexcept override { return false; }
  bool write(uint64_t, std::span<const std::byte>) noexcept override { return false; }
  [[nodiscard]] memory::WindowKind kind() const noexcept override {
    return memory::WindowKind::kShared;
  }
  [[nodiscard]] bool needs_guard() const noexcept override { return false; }
};

class FakeWindows final : public Windows {
 public:
  base::Result<std::shared_ptr<window::ProcessMemory>> open_process(base::UniqueFd, int) override {
    return base::Error{EINVAL, "not a process's memory"};
  }
  base::Result<std::unique_ptr<memory::Window>> open(
      uint64_t, uint64_t, std::span<const window::HostSegment> given,
      std::shared_ptr<window::ProcessMemory>) override {
    segments = given.size();
    return std::unique_ptr<memory::Window>(new NoWindow);
  }
  size_t segments = 0;
};

/// A server with a fake engine, and one client on a real socket pair.
class SessionTest : public testing::Test {
 protected:
  SessionTest() {
    environment_.worker = &worker_;
    environment_.windows = &windows_;
    environment_.incarnation = 42;
    path_ = testing::TempDir() + "/session-test." + std::to_string(::getpid());
    ::unlink(path_.c_str());
    server_.listen(std::move(listen_at(path_, SOCK_SEQPACKET, 0600)).value());
    client_ = connect();
  }
  ~SessionTest() override { ::unlink(path_.c_str()); }

  base::UniqueFd connect() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    base::UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    loop_.run_once(base::kSecond);
    return fd;
  }

  /// Sends bytes as they are; the whole answer.
  MessageHeader exchange(std::span<const std::byte> message,
                         const std::vector<base::UniqueFd>& fds = {}) {
    EXPECT_TRUE(send_message(client_.get(), message, fds));
    loop_.run_once(base::kSecond);
    received_ = receive_message(client_.get(), answer_);
    MessageHeader header{};
    std::memcpy(&header, answer_, sizeof header);
    EXPECT_EQ(received_.status, ReceiveStatus::kMessage);
    EXPECT_EQ(header.length, received_.bytes);
    return header;
  }

  template <typename Request>
  MessageHeader call(Request request, size_t bytes = sizeof(Request),
                     const std::vector<base::UniqueFd>& fds = {}) {
    request.header.type = static_cast<uint16_t>(Request::kType);
    request.header.length = static_cast<uint32_t>(bytes);
    request.header.sequence = ++sequence_;
    const MessageHeader header = exchange(std::as_bytes(std::span(&request, 1)).first(bytes), fds);
    EXPECT_EQ(header.sequence, sequence_);
    EXPECT_EQ(header.type, request.header.type);
    return header;
  }

  template <typename Reply>
  Reply answer() {
    EXPECT_EQ(received_.bytes, sizeof(Reply));
    Reply reply;
    std::memcpy(static_cast<void*>(&reply), answer_, sizeof reply);
    return reply;
  }

  static HelloRequest good_hello() {
    HelloRequest hello{};
    hello.magic = kMagic;
    hello.protocol_version = kProtocolVersion;
    hello.pipe_version = pipe::kPipeVersion;
    std::strcpy(hello.program, "test\x1b[2J");
    return hello;
  }

  void open_session() { ASSERT_EQ(call(good_hello()).status, 0); }

  uint32_t make_pd() {
    EXPECT_EQ(call(AllocatePdRequest{}).status, 0);
    return answer<AllocatePdReply>().pd;
  }
  uint32_t make_cq(uint32_t depth) {
    CreateCqRequest request{};
    request.depth = depth;
    EXPECT_EQ(call(request).status, 0);
    return answer<CreateCqReply>().cq;
  }
  static RegisterMrRequest registration(uint32_t pd) {
    RegisterMrRequest request{};
    request.iova = request.window_base = 0x10000;
    request.length = 0x2000;
    request.pd = pd;
    request.access = base::kAccessLocalWrite;
    request.segment_count = 1;
    request.segments[0] = {0x10000, 0x2000, 0, 0, 0, 1, 0, 0};
    return request;
  }
  static size_t registration_bytes(uint32_t segments) {
    return offsetof(RegisterMrRequest, segments) + segments * sizeof(WindowSegment);
  }
  static std::vector<base::UniqueFd> one_object() {
    std::vector<base::UniqueFd> fds;
    fds.emplace_back(::memfd_create("object", MFD_CLOEXEC));
    return fds;
  }

  FakeEngine engine_;
  WorkerThread worker_{engine_, WorkerOptions{}};
  FakeWindows windows_;
  SessionEnvironment environment_;
  EventLoop loop_;
  SessionServer server_{loop_, environment_, 4};
  std::string path_;
  base::UniqueFd client_;
  uint32_t sequence_ = 0;
  std::byte answer_[kMaxMessageBytes];
  Received received_;
};

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
  resize.depth = 0;
  EXPECT_EQ(call(resize).status, EINVAL);
  resize.depth = base::Limits::kMaxCqe + 1;
  EXPECT_EQ(call(resize).status, EINVAL);
  resize.cq += 1;
  resize.depth = 16;
  EXPECT_EQ(call(resize).status, ENOENT);
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
