#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rdma/rdma_user_cm.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "protocol/framing.h"
#include "protocol/messages_cm.h"
#include "protocol/runtime_dir.h"
#include "protocol/sysfs_tree.h"
#include "support.h"

/// The rdma_cm device as a program sees it, with an engine that says what it is told to.

namespace flexins::preload_test {
namespace {

using testing::ElementsAre;

constexpr uint32_t kId = 7;

/// One channel's engine; ends at a DISCONNECT.
class Engine {
 public:
  explicit Engine(const std::string& socket_path)
      : listener_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~Engine() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  std::vector<std::byte> option;  ///< what SET_OPTION brought behind its command

 private:
  void serve() {
    channel_.reset(::accept(listener_.get(), nullptr, nullptr));
    for (;;) {
      protocol::CmCommandRequest request{};
      protocol::ReceivedFds fds;
      const auto got = protocol::receive_message(
          channel_.get(), {reinterpret_cast<std::byte*>(&request), sizeof request}, fds);
      if (got.error != 0 || request.command == RDMA_USER_CM_CMD_DISCONNECT) break;
      if (fds.count == 1) answer(request, fds.fds[0].get());
    }
    listener_.reset();
    channel_.reset();
  }

  void answer(const protocol::CmCommandRequest& request, int to) {
    if (request.header.type == static_cast<uint16_t>(protocol::MessageType::kCmHello)) {
      return reply(to, protocol::CmHelloReply{}, 0);
    }
    switch (request.command) {
      case RDMA_USER_CM_CMD_CREATE_ID: {
        std::memcpy(&uid_, request.input, sizeof uid_);
        const std::byte one{1};
        EXPECT_EQ(::send(channel_.get(), &one, 1, 0), 1);
        return output(to, rdma_ucm_create_id_resp{kId});
      }
      case RDMA_USER_CM_CMD_GET_EVENT: {
        rdma_ucm_event_resp event{};
        event.uid = uid_;
        event.id = kId;
        event.event = 9;
        return output(to, event);
      }
      case RDMA_USER_CM_CMD_SET_OPTION: {
        const auto* begin =
            reinterpret_cast<const std::byte*>(request.input) + sizeof(rdma_ucm_set_option);
        option.assign(begin, begin + request.input_bytes - sizeof(rdma_ucm_set_option));
        return output(to, 0);
      }
      case RDMA_USER_CM_CMD_LISTEN: return reply(to, protocol::EmptyReply{}, EADDRINUSE);
      default: return output(to, 0);
    }
  }
  template <typename Output>
  void output(int to, const Output& value) {
    protocol::CmCommandReply body{};
    body.output_bytes = sizeof value;
    std::memcpy(body.output, &value, sizeof value);
    reply(to, body, 0);
  }
  template <typename Body>
  void reply(int to, Body body, int status) {
    body.header.status = static_cast<uint16_t>(status);
    EXPECT_EQ(protocol::send_message(to, std::as_bytes(std::span(&body, 1)), {}), 0);
  }

  base::UniqueFd listener_;
  base::UniqueFd channel_;
  uint64_t uid_ = 0;
  std::thread thread_;
};

TEST(CmChannelTest, IsADeviceUntilTheEngineDies) {
  const TemporaryDir dir;
  const auto tree = protocol::sysfs_tree_path(dir.path());
  ASSERT_TRUE(protocol::write_sysfs_tree(tree, {}).ok());
  Outcome outcome;
  std::vector<std::byte> option;
  {
    Engine engine(protocol::cm_socket_path(dir.path()));
    outcome = run({helper("cm_probe")}, preloaded(tree));
    option = engine.option;
  }
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(lines(outcome.output),
              ElementsAre("open: a character device", "close-on-exec: 1", "readable: 0",
                          "create: done, id 7", "readable: 1", "event: done, 9 of 5", "readable: 0",
                          "event: Resource temporarily unavailable, 0 of 0", "option: done",
                          "listen: Address already in use", "in a child: done",
                          "disconnect: No such device", "event: done, 11 of 5",
                          "event: No such device, 0 of 0", "destroy: done, 2 events",
                          "other: No such device", "ordinary write: done"));
  EXPECT_EQ(option.size(), sizeof(uint32_t));
}

TEST(CmChannelTest, WithoutAnEngineThereIsNoDevice) {
  const TemporaryDir dir;
  const auto tree = protocol::sysfs_tree_path(dir.path());
  ASSERT_TRUE(protocol::write_sysfs_tree(tree, {}).ok());
  const Outcome outcome = run({helper("cm_probe")}, preloaded(tree));
  EXPECT_THAT(lines(outcome.output), ElementsAre("open: No such device"));
}

TEST(CmChannelTest, LibrariesFindItsVersion) {
  const TemporaryDir dir;
  const auto tree = protocol::sysfs_tree_path(dir.path());
  ASSERT_TRUE(protocol::write_sysfs_tree(tree, {}).ok());
  const Outcome outcome = run({"cat", "/sys/class/misc/rdma_cm/abi_version"}, preloaded(tree));
  EXPECT_EQ(outcome.output, "4\n");
}

}  // namespace
}  // namespace flexins::preload_test
