#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.h"

namespace flexins::preload_test {
namespace {

using testing::ElementsAre;

TEST(HooksTest, DescriptorsOfOursGoToTheProvider) {
  const Outcome outcome = run({helper("hooks_probe")}, preloaded("/nonexistent"));
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(lines(outcome.output),
              ElementsAre("rdma netlink: Protocol not supported", "route netlink: open",
                          "newer version: Protocol not supported", "channel before hooks: 0",
                          "register: 0", "channel: 1", "async events: 4711, of another device: -1",
                          "channel of another device: 0", "closing a channel: 1", "closing: 0",
                          "read: 4 last", "short read: -1 Invalid argument", "read of another: 0"));
}

TEST(HooksTest, WithoutATreeNetlinkIsTheKernels) {
  const Outcome alone = run({helper("hooks_probe")});
  const Outcome inert = run({helper("hooks_probe")}, {{"LD_PRELOAD", FLEXINS_PRELOAD_LIBRARY}});
  EXPECT_EQ(lines(inert.output)[0], lines(alone.output)[0]);
}

}  // namespace
}  // namespace flexins::preload_test
