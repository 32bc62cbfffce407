#include "pipe/receive_ring.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

#include "ring_memory.h"

namespace flexins::pipe {
namespace {

constexpr uint32_t kDepth = 4;
constexpr uint32_t kSge = 3;

class ReceiveRing : public testing::Test {
 protected:
  RingMemory memory{receive_ring_bytes(kDepth, kSge)};
  ReceiveProducer producer{memory.base(), kDepth, kSge};
  ReceiveConsumer consumer{memory.base(), kDepth, kSge};
  std::array<base::Sge, kSge> sge{};
  uint64_t wr_id = 0;
  uint32_t count = 0;
};

TEST_F(ReceiveRing, GivesEntriesInOrderOncePublished) {
  const std::vector<base::Sge> two{{0x1000, 16, 7}, {0x2000, 32, 8}};
  producer.write(11, two);
  producer.write(12, {});
  EXPECT_TRUE(consumer.empty()) << "not published";
  producer.publish();
  ASSERT_TRUE(consumer.take(wr_id, sge, count));
  EXPECT_EQ(wr_id, 11u);
  ASSERT_EQ(count, 2u);
  EXPECT_EQ(sge[1].address, 0x2000u);
  EXPECT_EQ(sge[1].key, 8u);
  ASSERT_TRUE(consumer.take(wr_id, sge, count));
  EXPECT_EQ(wr_id, 12u);
  EXPECT_EQ(count, 0u);
  EXPECT_FALSE(consumer.take(wr_id, sge, count));
}

TEST_F(ReceiveRing, WrapsAround) {
  for (uint64_t id = 0; id < 100; ++id) {
    const std::vector<base::Sge> three{{id, 1, 1}, {id + 1, 2, 2}, {id + 2, 3, 3}};
    producer.write(id, three);
    producer.publish();
    EXPECT_EQ(producer.wr_id_at(producer.position() - 1), id);
    ASSERT_TRUE(consumer.take(wr_id, sge, count));
    ASSERT_EQ(wr_id, id);
    ASSERT_EQ(sge[2].address, id + 2);
  }
}

TEST_F(ReceiveRing, AProducedCountThatCannotBeIsNotBelieved) {
  auto& header = *reinterpret_cast<ReceiveRingHeader*>(memory.base());
  header.produced.store(kDepth + 1);
  EXPECT_TRUE(consumer.empty());
  header.produced.store(0xffff'ffff);
  EXPECT_FALSE(consumer.take(wr_id, sge, count));
}

TEST_F(ReceiveRing, AnSgeCountThatCannotBeIsCut) {
  producer.write(1, {});
  const uint32_t huge = 0xffff'ffff;
  std::memcpy(memory.base() + kRingHeaderBytes + offsetof(ReceiveEntry, sge_count), &huge,
              sizeof huge);
  producer.publish();
  ASSERT_TRUE(consumer.take(wr_id, sge, count));
  EXPECT_EQ(count, kSge);
}

TEST_F(ReceiveRing, AResetStartsBothSidesAgain) {
  producer.write(1, {});
  producer.publish();
  ASSERT_TRUE(consumer.take(wr_id, sge, count));
  consumer.reset();
  producer.reset();
  EXPECT_TRUE(consumer.empty());
  producer.write(2, {});
  producer.publish();
  ASSERT_TRUE(consumer.take(wr_id, sge, count));
  EXPECT_EQ(wr_id, 2u);
}

TEST_F(ReceiveRing, AKickIsAskedForAndTakenBack) {
  EXPECT_FALSE(producer.needs_kick());
  consumer.set_need_kick(true);
  EXPECT_TRUE(producer.needs_kick());
  consumer.set_need_kick(false);
  EXPECT_FALSE(producer.needs_kick());
}

TEST_F(ReceiveRing, TwoThreadsPassEveryEntry) {
  constexpr uint64_t kEntries = 200'000;
  std::atomic<uint64_t> completed{0};
  std::thread application([&] {
    for (uint64_t id = 0; id < kEntries; ++id) {
      while (id - completed.load(std::memory_order_acquire) >= kDepth) std::this_thread::yield();
      const base::Sge one{id * 8, static_cast<uint32_t>(id), 9};
      producer.write(id, {&one, 1});
      producer.publish();
    }
  });
  uint64_t wrong = 0;
  for (uint64_t id = 0; id < kEntries;) {
    if (!consumer.take(wr_id, sge, count)) {
      std::this_thread::yield();
      continue;
    }
    if (wr_id != id || count != 1 || sge[0].address != id * 8) ++wrong;
    completed.store(++id, std::memory_order_release);
  }
  application.join();
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace flexins::pipe
