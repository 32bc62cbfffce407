#include "replay.h"

#include <gtest/gtest.h>

#include <ostream>

/// A Linux Soft-RoCE pair's packets, with an engine in the place of either end.

namespace flexins::interop {

/// For messages of GoogleTest.
void PrintTo(const Scenario& scenario, std::ostream* out) { *out << scenario.file; }

namespace {

class Captures : public testing::TestWithParam<Scenario> {
 protected:
  void play(Role role) {
    const Capture capture = read_capture(GetParam());
    Replay replay(GetParam(), capture, role);
    std::string all;
    for (const std::string& line : replay.run()) all += line + "\n";
    EXPECT_EQ(all, "");
  }
};

TEST_P(Captures, EngineAsServer) { play(Role::kServer); }
TEST_P(Captures, EngineAsClient) { play(Role::kClient); }

INSTANTIATE_TEST_SUITE_P(Linux, Captures, testing::ValuesIn(scenarios()),
                         [](const auto& entry) { return std::string(entry.param.file); });

}  // namespace
}  // namespace flexins::interop
