#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/completion_queue.h"
#include "harness.h"

namespace flexins::engine::testing {
namespace {

constexpr base::ChannelId kChannel{7};
constexpr uint64_t kCookie = 99;

/// A CQ of four entries on a channel, in virtual time.
struct Queue {
  RecordedEvents events;
  EngineCounters counters;
  transport::TimerWheel timers;
  base::TimeNs now = 1000;
  Ring ring{pipe::completion_ring_bytes(4)};
  CompletionQueue queue;
  pipe::CompletionConsumer consumer{ring.data(), 4};

  explicit Queue(bool ignore_overrun = false)
      : queue({base::CqId{1}, kCookie, kChannel, &events, &counters, &timers, &now, ignore_overrun},
              ring.get(), 4) {}

  void push(uint64_t wr_id, base::WcStatus status = base::WcStatus::kSuccess) {
    transport::Completion completion;
    completion.wr_id = wr_id;
    completion.status = status;
    queue.push(completion, 1);
  }
  void advance(base::TimeNs by) {
    now += by;
    timers.expire(now, [](transport::TimerNode& node) {
      static_cast<CompletionQueue*>(node.owner)->on_deadline();
    });
  }
};

TEST(CompletionQueue, StampsWithTheTimeOfTheStep) {
  Queue q;
  q.push(1);
  q.now = 5000;
  q.push(2);
  EXPECT_EQ(q.consumer.front()->timestamp_ns, 1000u);
  q.consumer.pop();
  EXPECT_EQ(q.consumer.front()->timestamp_ns, 5000u);
}

TEST(CompletionQueue, ModerationHoldsAnEventForItsCount) {
  Queue q;
  q.queue.moderate(3, 1 * base::kMillisecond);
  q.consumer.arm(false);
  q.push(1);
  q.push(2);
  EXPECT_TRUE(q.events.completions.empty());
  q.push(3);
  EXPECT_EQ(q.events.completions.size(), 1u);
  q.advance(10 * base::kMillisecond);
  EXPECT_EQ(q.events.completions.size(), 1u) << "the timer went with the event";
}

TEST(CompletionQueue, ModerationEndsWithItsPeriod) {
  Queue q;
  q.queue.moderate(100, 50 * base::kMicrosecond);
  q.consumer.arm(false);
  q.push(1);
  q.advance(40 * base::kMicrosecond);
  EXPECT_TRUE(q.events.completions.empty());
  q.advance(20 * base::kMicrosecond);
  EXPECT_EQ(q.events.completions.size(), 1u);
}

TEST(CompletionQueue, ErrorsAreNotHeldBack) {
  Queue q;
  q.queue.moderate(100, base::kSecond);
  q.consumer.arm(true);
  q.push(1);
  EXPECT_TRUE(q.events.completions.empty());
  q.push(2, base::WcStatus::kRetryExceeded);
  EXPECT_EQ(q.events.completions.size(), 1u);
}

TEST(CompletionQueue, WhatIsNotAwaitedIsNotCounted) {
  Queue q;
  q.queue.moderate(2, base::kSecond);
  q.push(1);
  q.push(2);
  q.consumer.arm(false);
  q.push(3);
  EXPECT_TRUE(q.events.completions.empty());
  q.push(4);
  EXPECT_EQ(q.events.completions.size(), 1u);
}

TEST(CompletionQueue, TurningModerationOffOwesTheEvent) {
  Queue q;
  q.queue.moderate(100, base::kSecond);
  q.consumer.arm(false);
  q.push(1);
  q.queue.moderate(0, 0);
  EXPECT_EQ(q.events.completions.size(), 1u);
  q.consumer.arm(false);
  q.push(2);
  EXPECT_EQ(q.events.completions.size(), 2u);
}

TEST(CompletionQueue, IgnoredOverrunsLoseCompletionsAndNothingElse) {
  Queue q(true);
  for (uint64_t i = 0; i < 6; ++i) q.push(i);
  EXPECT_FALSE(q.queue.overrun());
  EXPECT_EQ(q.counters.completions_lost, 2u);
  EXPECT_TRUE(q.events.async.empty());
  q.consumer.pop();
  q.consumer.release();
  q.push(9);
  for (uint64_t wr_id : {1, 2, 3, 9}) {
    ASSERT_NE(q.consumer.front(), nullptr);
    EXPECT_EQ(q.consumer.front()->wr_id, wr_id);
    q.consumer.pop();
  }
}

TEST(CompletionQueue, SettlesWhatItsApplicationHasRead) {
  Queue q;
  EXPECT_EQ(q.queue.settle_events().completion, 0u);
  for (int i = 0; i < 3; ++i) {
    q.events.full = i == 1;  // this one is dropped, and nobody will acknowledge it
    q.consumer.arm(false);
    q.push(1);
  }
  q.events.full = false;
  EXPECT_EQ(q.queue.settle_events().completion, 2u);
  q.events.unread[kCookie] = 1;
  EXPECT_EQ(q.queue.settle_events().completion, 1u);
  q.events.unread[kCookie] = 100;  // who has written them?
  EXPECT_EQ(q.queue.settle_events().completion, 0u);
  EXPECT_EQ(q.queue.settle_events().async, 0u);
  q.events.unread[kCookie] = 0;
  for (uint64_t i = 0; i < 2; ++i) q.push(i);
  ASSERT_TRUE(q.queue.overrun());
  EXPECT_EQ(q.queue.settle_events().async, 1u);
}

TEST(CompletionQueue, ResizingKeepsWhatWaitsAndTheWish) {
  Queue q;
  for (uint64_t i = 0; i < 3; ++i) q.push(i);
  q.consumer.pop();
  q.consumer.release();
  q.consumer.arm(false);
  Ring larger(pipe::completion_ring_bytes(16));
  ASSERT_TRUE(q.queue.move_to(larger.get(), 16, 16).ok());
  pipe::CompletionConsumer consumer(larger.data(), 16, q.consumer.position());
  for (uint64_t i = 10; i < 20; ++i) q.push(i);
  EXPECT_FALSE(q.queue.overrun());
  EXPECT_EQ(q.events.completions.size(), 1u);
  for (uint64_t wr_id : {1, 2, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}) {
    ASSERT_NE(consumer.front(), nullptr);
    EXPECT_EQ(consumer.front()->wr_id, wr_id);
    consumer.pop();
  }
  EXPECT_EQ(consumer.front(), nullptr);
}

TEST(CompletionQueue, ResizingBelowWhatWaitsIsRefused) {
  Queue q;
  for (uint64_t i = 0; i < 3; ++i) q.push(i);
  Ring smaller(pipe::completion_ring_bytes(2));
  EXPECT_EQ(q.queue.move_to(smaller.get(), 2, 2).error().code, EINVAL);
  EXPECT_EQ(q.consumer.front()->wr_id, 0u);
  Ring larger(pipe::completion_ring_bytes(16));
  EXPECT_EQ(q.queue.move_to(larger.get(), 16, 2).error().code, EINVAL);
  q.push(3);
  EXPECT_FALSE(q.queue.overrun()) << "the old ring is still in use";
  q.push(4);
  EXPECT_TRUE(q.queue.overrun());
  EXPECT_EQ(q.queue.move_to(smaller.get(), 2, 2).error().code, EIO);
}

TEST(CompletionQueue, AProgramThatLiesAboutItsPositionIsRefused) {
  Queue q;
  q.push(1);
  reinterpret_cast<pipe::CompletionRingHeader*>(q.ring.data())->consumed = 0x8000'0000u;
  Ring larger(pipe::completion_ring_bytes(16));
  EXPECT_FALSE(q.queue.move_to(larger.get(), 16, 16).ok());
}

}  // namespace
}  // namespace flexins::engine::testing
