#include <tuple>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <spdlog/spdlog.h>

#include "base/check.h"
#include "daemon/session.h"
#include "input.h"
#include "tests/engine/harness.h"

/// Any messages of a session, with and without descriptors, in any order, by two programs of one
/// user at one engine. Nothing may crash; each message is answered; when the sessions end, the
/// engine and the tenant's account are as empty as before.

namespace flexins::daemon {
namespace {

using fuzz::Input;
using namespace flexins::protocol;

/// Every request that has one size. The fuzzer need not guess that.
using Requests =
    std::tuple<HelloRequest, AllocatePdRequest, FreePdRequest, DeregisterMrRequest,
               CreateChannelRequest, DestroyChannelRequest, CreateCqRequest, DestroyCqRequest,
               ResizeCqRequest, ModifyCqRequest, CreateSubmissionRingRequest, CreateQpRequest,
               ModifyQpRequest, QueryQpRequest, DestroyQpRequest, SetQpRateRequest,
               QueryPortRequest, CreateSrqRequest, ModifySrqRequest, QuerySrqRequest,
               DestroySrqRequest, AllocateMwRequest, FreeMwRequest, CreateAhRequest,
               DestroyAhRequest, AttachMulticastRequest, DetachMulticastRequest, CreateFlowRequest,
               DestroyFlowRequest, AllocateNullMrRequest, AllocateDmRequest, FreeDmRequest,
               RegisterDmMrRequest, ImportPdRequest, ImportMrRequest, ImportDmRequest>;

struct Shape {
  uint16_t type;
  uint32_t bytes;
};

template <typename... Request>
constexpr std::array<Shape, sizeof...(Request)> shapes_of(const std::tuple<Request...>*) {
  return {Shape{static_cast<uint16_t>(Request::kType), sizeof(Request)}...};
}
constexpr auto kShapes = shapes_of(static_cast<const Requests*>(nullptr));

/// Windows onto nothing: what windows do with foreign descriptors has tests of its own.
class NoWindows final : public Windows {
 public:
  base::Result<std::shared_ptr<window::ProcessMemory>> open_process(base::UniqueFd, int) override {
    return base::Error{EINVAL, "not a process's memory"};
  }
  base::Result<std::unique_ptr<memory::Window>> open(
      uint64_t, uint64_t, std::span<const window::HostSegment> segments,
      std::shared_ptr<window::ProcessMemory>) override {
    for (const window::HostSegment& segment : segments) {
      FLEXINS_CHECK(::fcntl(segment.fd, F_GETFD) >= 0);
    }
    return std::unique_ptr<memory::Window>(new engine::testing::DirectWindow);
  }
};

class Machine {
 public:
  Machine() {
    environment_.worker = &worker_;
    environment_.windows = &windows_;
    environment_.limits.ring_bytes_max = 8 << 20;
    for (auto& session : sessions_) {
      session = std::make_unique<Session>(environment_, use_, PeerCredentials{1000, 1});
      HelloRequest hello{};
      hello.magic = kMagic;
      hello.protocol_version = kProtocolVersion;
      hello.pipe_version = pipe::kPipeVersion;
      send(*session, static_cast<uint16_t>(HelloRequest::kType), &hello, sizeof hello, {});
    }
  }

  void send(Input& input) {
    const uint8_t choice = input.byte();
    const uint8_t head = input.byte();
    std::vector<std::byte> message(kMaxMessageBytes);
    Shape shape{};
    if (choice < kShapes.size()) {
      shape = kShapes[choice];
    } else {
      // Those of variable length, those that are none, and sizes that are wrong.
      shape = {choice, uint32_t{input.byte()} * 8};
    }
    const auto body = input.take(input.byte());
    if (body.size() <= message.size() - sizeof(MessageHeader)) {
      std::copy(body.begin(), body.end(), message.begin() + sizeof(MessageHeader));
    }
    std::vector<base::UniqueFd> fds;
    if ((head & 2) != 0) fds.emplace_back(::memfd_create("fuzz", MFD_CLOEXEC));
    if ((head & 4) != 0) fds.emplace_back(::dup(0));
    send(*sessions_[head & 1], shape.type, message.data(), shape.bytes, std::move(fds));
  }

  void finish() {
    for (auto& session : sessions_) session.reset();
    const engine::EngineInfo left =
        worker_.call([](engine::Engine& engine) { return engine.info(); });
    FLEXINS_CHECK(left.contexts.empty() && left.qps.empty() && left.regions.empty());
    TenantUse nothing;
    nothing.last_device_memory = use_.last_device_memory;
    FLEXINS_CHECK(use_ == nothing);
  }

 private:
  static void send(Session& session, uint16_t type, void* message, uint32_t bytes,
                   std::vector<base::UniqueFd> fds) {
    MessageHeader header{};
    header.type = type;
    header.length = bytes;
    header.sequence = 7;
    std::memcpy(message, &header, std::min<size_t>(sizeof header, bytes));
    const Reply reply =
        session.handle({static_cast<const std::byte*>(message), bytes}, std::move(fds));
    FLEXINS_CHECK(reply.bytes.size() >= sizeof(MessageHeader));
    std::memcpy(&header, reply.bytes.data(), sizeof header);
    FLEXINS_CHECK(header.length == reply.bytes.size() && reply.fds.size() <= kMaxDescriptors);
  }

  fuzz::Counting random_;
  engine::testing::QueuePort local_;
  engine::testing::QueuePort network_;
  std::unique_ptr<engine::Engine> engine_ = make_engine();
  WorkerThread worker_{*engine_, WorkerOptions{}};
  NoWindows windows_;
  SessionEnvironment environment_;
  TenantUse use_;
  std::unique_ptr<Session> sessions_[2];

  std::unique_ptr<engine::Engine> make_engine() {
    engine::EngineConfig config;
    config.addresses = {{engine::testing::Host::numbered_address(1), "eth0", 1024}};
    config.local = &local_;
    config.network = &network_;
    config.random = &random_;
    return engine::Engine::create(config);
  }
};

}  // namespace
}  // namespace flexins::daemon

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  spdlog::set_level(spdlog::level::off);
  flexins::fuzz::Input input(std::as_bytes(std::span(data, size)));
  flexins::daemon::Machine machine;
  while (!input.empty()) machine.send(input);
  machine.finish();
  return 0;
}
