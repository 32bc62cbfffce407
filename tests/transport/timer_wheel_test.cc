#include "transport/timer_wheel.h"

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "allocation_guard.h"
#include "harness.h"

namespace flexins::transport::test {
namespace {

std::vector<TimerNode*> expired(TimerWheel& wheel, base::TimeNs now) {
  std::vector<TimerNode*> nodes;
  wheel.expire(now, [&](TimerNode& node) { nodes.push_back(&node); });
  return nodes;
}

TEST(TimerWheel, EmptyNeverWakes) {
  TimerWheel wheel(5);
  EXPECT_EQ(wheel.next(), base::kNever);
  EXPECT_TRUE(expired(wheel, base::kSecond).empty());
}

TEST(TimerWheel, ServesNotBeforeAndAtMostOneTickAfter) {
  for (const base::TimeNs wait : {1ull, 1023ull, 1024ull, 1025ull, 70'000ull, 67'108'864ull,
                                  5'000'000'000ull, 8'796'093'022'208ull}) {
    TimerWheel wheel(12'345);
    TimerNode node;
    wheel.schedule(node, 12'345 + wait);
    EXPECT_TRUE(expired(wheel, 12'345 + wait - 1).empty()) << wait;
    EXPECT_EQ(node.deadline(), 12'345 + wait);
    EXPECT_EQ(expired(wheel, 12'345 + wait + TimerWheel::kTickNs).size(), 1u) << wait;
    EXPECT_FALSE(node.scheduled());
  }
}

TEST(TimerWheel, LaterDeadlineCostsNothingUntilTheOldOneComes) {
  TimerWheel wheel;
  TimerNode node;
  wheel.schedule(node, 10'240);
  wheel.schedule(node, 1'024'000);
  EXPECT_EQ(wheel.next(), 10'240u);  // lazy: the old place
  EXPECT_TRUE(expired(wheel, 20'000).empty());
  EXPECT_GT(wheel.next(), 20'000u);
  EXPECT_EQ(expired(wheel, 1'025'000).size(), 1u);
}

TEST(TimerWheel, EarlierDeadlineAndCancel) {
  TimerWheel wheel;
  TimerNode node;
  TimerNode other;
  wheel.schedule(node, base::kSecond);
  wheel.schedule(node, 5'000);
  wheel.schedule(other, 5'000);
  wheel.cancel(other);
  wheel.schedule(other, base::kSecond);
  wheel.schedule(other, base::kNever);
  EXPECT_FALSE(other.scheduled());
  EXPECT_EQ(expired(wheel, 10'000), std::vector<TimerNode*>{&node});
}

TEST(TimerWheel, CallbackMayScheduleCancelAndDestroy) {
  TimerWheel wheel;
  auto doomed = std::make_unique<TimerNode>();
  TimerNode neighbour;
  TimerNode again;
  wheel.schedule(*doomed, 2'000);
  wheel.schedule(neighbour, 2'000);
  wheel.schedule(again, 2'000);
  std::vector<TimerNode*> served;
  wheel.expire(4'096, [&](TimerNode& node) {
    served.push_back(&node);
    if (&node == doomed.get()) {
      doomed.reset();
      wheel.cancel(neighbour);
    } else {
      wheel.schedule(node, 2'500);  // past: served in the same call
      if (served.size() > 3) wheel.cancel(node);
    }
  });
  EXPECT_EQ(served.size(), 4u);
  EXPECT_FALSE(neighbour.scheduled());
}

TEST(TimerWheel, NodesMayOutliveIt) {
  TimerNode node;
  {
    TimerWheel wheel;
    wheel.schedule(node, 1);
  }
  EXPECT_FALSE(node.scheduled());
}

/// Against a plain model: thousands of nodes, deadlines moved at random.
TEST(TimerWheel, AgreesWithAModel) {
  TestRandom random(7);
  TimerWheel wheel;
  std::deque<TimerNode> nodes(3000);
  std::map<TimerNode*, base::TimeNs> model;
  base::TimeNs now = 0;
  const uint64_t before = forbidden_allocations();
  for (int round = 0; round < 4000; ++round) {
    for (int i = 0; i < 10; ++i) {
      TimerNode& node = nodes[random.below(nodes.size())];
      const bool cancel = random.chance(100);
      const base::TimeNs at = now + random.below(uint64_t{1} << (10 + random.below(26)));
      {
        const ForbidAllocation forbid;
        wheel.schedule(node, cancel ? base::kNever : at);
      }
      if (cancel) {
        model.erase(&node);
      } else {
        model[&node] = at;
      }
    }
    now = random.chance(500) ? now + random.below(200'000) : std::max(now, wheel.next());
    wheel.expire(now, [&](TimerNode& node) {
      ASSERT_EQ(model.count(&node), 1u);
      EXPECT_LE(model[&node], now);
      model.erase(&node);
    });
    base::TimeNs earliest = base::kNever;
    for (const auto& [node, at] : model) earliest = std::min(earliest, at);
    ASSERT_GT(earliest + TimerWheel::kTickNs, now);
    if (earliest != base::kNever) {
      ASSERT_LE(wheel.next(), earliest + TimerWheel::kTickNs);
    }
  }
  EXPECT_EQ(forbidden_allocations(), before);
}

}  // namespace
}  // namespace flexins::transport::test
