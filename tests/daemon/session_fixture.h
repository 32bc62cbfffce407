#pragma once

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/engine_dir.h"
#include "daemon/message_socket.h"
#include "daemon/session_server.h"
#include "fake_engine.h"

namespace flexins::daemon {

using namespace flexins::protocol;

/// A window onto nothing.
class NoWindow final : public memory::Window {
 public:
  memory::Extent resolve(uint64_t, uint64_t length) noexcept override { return {nullptr, length}; }
  memory::AccessResult read(uint64_t, std::span<std::byte>) noexcept override {
    return memory::AccessResult::kFailed;
  }
  memory::AccessResult write(uint64_t, std::span<const std::byte>) noexcept override {
    return memory::AccessResult::kFailed;
  }
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

}  // namespace flexins::daemon
