#include "pipe/completion_ring.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "ring_memory.h"

namespace flexins::pipe {
namespace {

constexpr uint32_t kDepth = 8;

void push(CompletionProducer& producer, uint64_t wr_id) {
  CompletionEntry entry{};
  entry.wr_id = wr_id;
  entry.qpn = static_cast<uint32_t>(wr_id * 3);
  entry.generation = static_cast<uint32_t>(wr_id);
  producer.push(entry);
}

class CompletionRing : public testing::Test {
 protected:
  RingMemory memory{completion_ring_bytes(kDepth)};
  CompletionProducer producer{memory.base(), kDepth};
  CompletionConsumer consumer{memory.base(), kDepth};
};

TEST_F(CompletionRing, GivesCompletionsInOrder) {
  EXPECT_EQ(consumer.front(), nullptr);
  for (uint64_t id = 1; id <= 3; ++id) push(producer, id);
  for (uint64_t id = 1; id <= 3; ++id) {
    const CompletionEntry* entry = consumer.front();
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->wr_id, id);
    EXPECT_EQ(entry->generation, id);
    consumer.pop();
  }
  EXPECT_EQ(consumer.front(), nullptr);
}

TEST_F(CompletionRing, HasRoomForItsDepthUntilReleased) {
  for (uint64_t id = 0; id < kDepth; ++id) {
    ASSERT_TRUE(producer.has_room());
    push(producer, id);
  }
  EXPECT_FALSE(producer.has_room());
  ASSERT_NE(consumer.front(), nullptr);
  consumer.pop();
  EXPECT_FALSE(producer.has_room()) << "popped, but not released";
  consumer.release();
  EXPECT_TRUE(producer.has_room());
}

TEST_F(CompletionRing, OverflowIsSeen) {
  EXPECT_FALSE(consumer.overflowed());
  producer.mark_overflowed();
  EXPECT_TRUE(consumer.overflowed());
}

TEST(CompletionRingWrap, PositionsPassTwoToThe32) {
  RingMemory memory(completion_ring_bytes(kDepth));
  const uint32_t start = 0u - 20;
  CompletionProducer producer(memory.base(), kDepth, start);
  CompletionConsumer consumer(memory.base(), kDepth, start);
  consumer.release();
  for (uint64_t id = 1; id < 100; ++id) {
    ASSERT_EQ(consumer.front(), nullptr) << id;
    ASSERT_TRUE(producer.has_room());
    push(producer, id);
    ASSERT_NE(consumer.front(), nullptr) << id;
    ASSERT_EQ(consumer.front()->wr_id, id);
    consumer.pop();
    consumer.release();
  }
}

TEST_F(CompletionRing, ALyingConsumerIndexOnlyChangesWhetherThereIsRoom) {
  auto& header = *reinterpret_cast<CompletionRingHeader*>(memory.base());
  for (uint64_t id = 0; id < kDepth; ++id) push(producer, id);
  header.consumed.store(0xdead'beef);
  EXPECT_FALSE(producer.has_room());
}

TEST_F(CompletionRing, AnArmedRingGivesOneEvent) {
  EXPECT_FALSE(producer.take_arm(true)) << "nobody asked";
  consumer.arm(false);
  push(producer, 1);
  EXPECT_TRUE(producer.take_arm(false));
  EXPECT_FALSE(producer.take_arm(true));
}

TEST_F(CompletionRing, SolicitedOnlyWaitsForASolicitedOne) {
  consumer.arm(true);
  EXPECT_FALSE(producer.take_arm(false));
  EXPECT_TRUE(producer.take_arm(true));
}

TEST_F(CompletionRing, AWishForAnyCompletionIsNotWeakened) {
  consumer.arm(false);
  consumer.arm(true);
  EXPECT_TRUE(producer.take_arm(false));
  consumer.arm(true);
  consumer.arm(false);
  EXPECT_TRUE(producer.take_arm(false));
}

TEST(CompletionRingThreads, EveryCompletionArrivesWhole) {
  constexpr uint64_t kEntries = 300'000;
  RingMemory memory(completion_ring_bytes(kDepth));
  CompletionConsumer consumer(memory.base(), kDepth);
  std::thread engine([&] {
    CompletionProducer producer(memory.base(), kDepth);
    for (uint64_t id = 0; id < kEntries; ++id) {
      while (!producer.has_room()) std::this_thread::yield();
      push(producer, id);
    }
  });
  uint64_t wrong = 0;
  for (uint64_t id = 0; id < kEntries;) {
    const CompletionEntry* entry = consumer.front();
    if (entry == nullptr) {
      std::this_thread::yield();
      continue;
    }
    if (entry->wr_id != id || entry->qpn != static_cast<uint32_t>(id * 3)) ++wrong;
    consumer.pop();
    consumer.release();
    ++id;
  }
  engine.join();
  EXPECT_EQ(wrong, 0u);
}

/// The lost wake-up: a completion pushed between arming and the last look must either be seen by
/// that look or raise the event. A loss shows as a hang here.
TEST(CompletionRingThreads, NoWakeUpIsLost) {
  constexpr uint64_t kRounds = 30'000;
  RingMemory memory(completion_ring_bytes(kDepth));
  CompletionConsumer consumer(memory.base(), kDepth);
  std::atomic<uint64_t> events{0};
  std::atomic<uint64_t> wanted{0};
  std::atomic<uint64_t> done{0};
  std::thread engine([&] {
    CompletionProducer producer(memory.base(), kDepth);
    for (uint64_t id = 0; id < kRounds; ++id) {
      while (wanted.load() <= id) std::this_thread::yield();
      push(producer, id);
      if (producer.take_arm(false)) events.fetch_add(1);
      done.store(id + 1);
    }
  });
  uint64_t seen = 0;
  for (uint64_t id = 0; id < kRounds; ++id) {
    wanted.store(id + 1);
    consumer.arm(false);
    if (consumer.front() == nullptr) {
      while (events.load() == seen) std::this_thread::yield();
    }
    EXPECT_NE(consumer.front(), nullptr) << "an event without its completion";
    while (done.load() <= id) std::this_thread::yield();
    consumer.pop();
    consumer.release();
    seen = events.load();
  }
  engine.join();
  EXPECT_GT(events.load(), 0u);
}

}  // namespace
}  // namespace flexins::pipe
