#include <gtest/gtest.h>

#include "conversation_end.h"
#include "wire/icrc.h"

/// Programs that found each other through rdma_cm, with an engine and its communication manager in
/// the place of either of them.

namespace flexins::interop {
namespace {

using engine::testing::FlatPacket;

constexpr size_t kIcrcBytes = 4;

class Conversation : public testing::TestWithParam<const char*> {
 protected:
  void play(Role role) {
    Scenario scenario;
    scenario.file = GetParam();
    const Capture capture = read_capture(scenario);
    ConversationEnd end(capture, role);
    for (const Captured& packet : capture.packets) {
      if (end.is_ours(packet)) {
        if (end.sent().empty()) end.cause(packet);
        compare(end, packet);
      } else {
        end.deliver(packet);
      }
      if (HasFailure()) return;
    }
    EXPECT_TRUE(end.sent().empty()) << "a packet too many";
    std::vector<std::string> deviations;
    end.check_outcome(deviations);
    for (const std::string& line : deviations) ADD_FAILURE() << line;
  }

  static void compare(ConversationEnd& end, const Captured& expected) {
    ASSERT_FALSE(end.sent().empty()) << "nothing was sent for " << describe(expected);
    FlatPacket packet = std::move(end.sent().front());
    end.sent().pop_front();
    end.rename(expected, packet.bytes);
    const std::vector<std::byte> wanted(expected.transport.begin(),
                                        expected.transport.end() - kIcrcBytes);
    ASSERT_EQ(packet.bytes.size(), wanted.size()) << describe(expected);
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_EQ(packet.bytes[i], wanted[i]) << describe(expected) << ", byte " << i;
    }
    const uint32_t icrc =
        wire::icrc_finish(wire::icrc_begin(wire::outer_headers(expected.outer), packet.bytes));
    for (size_t i = 0; i < kIcrcBytes; ++i) {
      EXPECT_EQ(expected.transport[wanted.size() + i], static_cast<std::byte>(icrc >> 8 * i & 0xff))
          << describe(expected);
    }
  }
};

TEST_P(Conversation, EngineAsServer) { play(Role::kServer); }
TEST_P(Conversation, EngineAsClient) { play(Role::kClient); }

INSTANTIATE_TEST_SUITE_P(Linux, Conversation,
                         testing::Values("rping_connect", "rping_reject", "ucmatose",
                                         "udaddy_sidr"),
                         [](const auto& entry) { return std::string(entry.param); });

}  // namespace
}  // namespace flexins::interop
