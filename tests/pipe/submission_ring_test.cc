#include "pipe/submission_ring.h"

#include <gtest/gtest.h>

#include <thread>

#include "ring_memory.h"

namespace flexins::pipe {
namespace {

/// An entry of `slot_count` slots whose further slots are filled with `fill`.
void put(SubmissionProducer& producer, uint64_t wr_id, uint32_t slot_count, uint8_t fill = 0xab) {
  ASSERT_TRUE(producer.has_room(slot_count));
  SubmissionSlot& first = producer.slot(0);
  first.wr_id = wr_id;
  first.qpn = static_cast<uint32_t>(wr_id);
  first.slot_count = static_cast<uint8_t>(slot_count);
  for (uint32_t i = 1; i < slot_count; ++i) {
    std::memset(static_cast<void*>(&producer.slot(i)), fill, kSlotBytes);
  }
  producer.publish(slot_count);
}

class SubmissionRing : public testing::Test {
 protected:
  RingMemory memory{submission_ring_bytes()};
  SubmissionProducer producer{memory.base()};
  SubmissionConsumer consumer{memory.base()};
  SubmissionEntry entry;
};

TEST_F(SubmissionRing, IsEmptyAtFirst) {
  EXPECT_TRUE(consumer.empty());
  EXPECT_FALSE(consumer.take(entry));
}

TEST_F(SubmissionRing, GivesEntriesInOrder) {
  put(producer, 1, 1);
  put(producer, 2, 3, 0x5a);
  ASSERT_TRUE(consumer.take(entry));
  EXPECT_EQ(entry.slots[0].wr_id, 1u);
  ASSERT_TRUE(consumer.take(entry));
  EXPECT_EQ(entry.slots[0].wr_id, 2u);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&entry.slots[2]);
  EXPECT_EQ(bytes[0], 0x5a);
  EXPECT_EQ(bytes[63], 0x5a);
  EXPECT_FALSE(consumer.take(entry));
}

TEST_F(SubmissionRing, AnUnpublishedEntryIsNotSeen) {
  producer.slot(0).wr_id = 7;
  producer.slot(0).slot_count = 1;
  EXPECT_TRUE(consumer.empty());
}

TEST_F(SubmissionRing, IsFullOneSlotBeforeItsEndAndOpensAtRelease) {
  for (uint32_t i = 0; i < kSubmissionRingSlots - 1; ++i) put(producer, i, 1);
  EXPECT_FALSE(producer.has_room(1));
  ASSERT_TRUE(consumer.take(entry));
  EXPECT_FALSE(producer.has_room(1)) << "taken, but not released";
  consumer.release();
  EXPECT_TRUE(producer.has_room(1));
  EXPECT_FALSE(producer.has_room(2));
}

TEST_F(SubmissionRing, EntriesWrapAroundTheEndManyTimes) {
  const uint32_t sizes[] = {1, 10, 3, 7, 2, 9};
  uint64_t next = 0;
  for (uint64_t id = 0; id < 20'000; ++id) {
    put(producer, id, sizes[id % std::size(sizes)], static_cast<uint8_t>(id));
    ASSERT_TRUE(consumer.take(entry));
    ASSERT_EQ(entry.slots[0].wr_id, next++);
    for (uint32_t i = 1; i < sizes[id % std::size(sizes)]; ++i) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(&entry.slots[i]);
      ASSERT_EQ(bytes[0], static_cast<uint8_t>(id));
      ASSERT_EQ(bytes[63], static_cast<uint8_t>(id));
    }
    ASSERT_TRUE(consumer.empty());
    consumer.release();
  }
}

/// Inline bytes lie where sequences lie: the slot behind an entry may hold, from an earlier lap,
/// the very number that says "published".
TEST_F(SubmissionRing, StaleBytesThatLookLikeASequenceAreNoEntry) {
  // A lap of two-slot entries whose second slot carries the sequence that it would have one lap on.
  for (uint32_t position = 0; position + 2 < 2 * kSubmissionRingSlots; position += 2) {
    SubmissionSlot& second = producer.slot(1);
    put(producer, position, 2);
    second.sequence.store(position + 1 + kSubmissionRingSlots + 1, std::memory_order_relaxed);
    ASSERT_TRUE(consumer.take(entry));
    consumer.release();
    ASSERT_TRUE(consumer.empty()) << position;
  }
  // One slot further, so that first slots now fall where the prepared second slots are.
  put(producer, 1, 1);
  ASSERT_TRUE(consumer.take(entry));
  ASSERT_TRUE(consumer.empty());
  for (int i = 0; i < 100; ++i) {
    put(producer, 2, 2);
    ASSERT_TRUE(consumer.take(entry));
    ASSERT_EQ(entry.slots[0].wr_id, 2u);
    ASSERT_TRUE(consumer.empty());
    consumer.release();
  }
}

TEST(SubmissionRingWrap, PositionsPassTwoToThe32) {
  for (uint32_t slot_count = 1; slot_count <= kMaxSubmissionSlots; ++slot_count) {
    RingMemory memory(submission_ring_bytes());
    const uint32_t start = 0u - 64;
    SubmissionProducer producer(memory.base(), start);
    SubmissionConsumer consumer(memory.base(), start);
    consumer.release();
    SubmissionEntry entry;
    for (uint64_t id = 1; id < 200; ++id) {
      ASSERT_TRUE(consumer.empty()) << slot_count << " slots, before entry " << id;
      put(producer, id, slot_count, 0);
      ASSERT_TRUE(consumer.take(entry));
      ASSERT_EQ(entry.slots[0].wr_id, id);
      consumer.release();
    }
  }
}

TEST_F(SubmissionRing, AHostileSlotCountStaysInsideTheEntry) {
  for (const int claimed : {0, 11, 255}) {
    put(producer, 5, 1);
    SubmissionSlot& written =
        *reinterpret_cast<SubmissionSlot*>(memory.base() + kRingHeaderBytes +
                                           kSlotBytes * (claimed == 0    ? 0
                                                         : claimed == 11 ? 1
                                                                         : 2));
    written.slot_count = static_cast<uint8_t>(claimed);
    ASSERT_TRUE(consumer.take(entry));
    EXPECT_EQ(entry.slots[0].slot_count, 1);
  }
}

TEST_F(SubmissionRing, GarbageAllOverIsReadWithoutHarm) {
  std::memset(memory.base() + kRingHeaderBytes, 0xff, kSlotBytes * kSubmissionRingSlots);
  EXPECT_FALSE(consumer.take(entry));
  // An application that publishes every slot at once: each is one entry, none reaches outside.
  auto* slots = reinterpret_cast<SubmissionSlot*>(memory.base() + kRingHeaderBytes);
  for (uint32_t i = 0; i < kSubmissionRingSlots; ++i) slots[i].sequence.store(i + 1);
  uint32_t taken = 0;
  while (consumer.take(entry)) ++taken;
  EXPECT_EQ(taken, kSubmissionRingSlots);
}

TEST_F(SubmissionRing, TwoThreadsPassEveryEntryWhole) {
  constexpr uint64_t kEntries = 200'000;
  std::thread application([&] {
    for (uint64_t id = 0; id < kEntries; ++id) {
      const auto slots = static_cast<uint32_t>(1 + id % kMaxSubmissionSlots);
      while (!producer.has_room(slots)) std::this_thread::yield();
      put(producer, id, slots, static_cast<uint8_t>(id));
    }
  });
  for (uint64_t id = 0; id < kEntries;) {
    if (!consumer.take(entry)) {
      consumer.release();
      std::this_thread::yield();
      continue;
    }
    EXPECT_EQ(entry.slots[0].wr_id, id);
    const uint32_t slots = entry.slots[0].slot_count;
    EXPECT_EQ(slots, 1 + id % kMaxSubmissionSlots);
    const auto* last = reinterpret_cast<const uint8_t*>(&entry.slots[slots - 1]);
    EXPECT_TRUE(slots == 1 || last[63] == static_cast<uint8_t>(id));
    if (HasFailure()) break;
    ++id;
  }
  consumer.release();
  if (HasFailure()) application.detach();  // it may wait for room for ever
  if (application.joinable()) application.join();
}

}  // namespace
}  // namespace flexins::pipe
