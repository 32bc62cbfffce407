#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "memory/window.h"

namespace flexins::memory {
namespace {

TEST(CopyTailLast, CopiesEveryLengthAtEveryAlignmentAndNothingElse) {
  constexpr size_t kRoom = 400;
  std::vector<std::byte> from(kRoom + 16);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 7 + 1);
  alignas(64) std::byte to[kRoom + 32];
  for (size_t to_offset = 0; to_offset < 16; ++to_offset) {
    for (size_t from_offset = 0; from_offset < 9; from_offset += 1) {
      for (size_t length = 0; length < kRoom - 16; length += length < 80 ? 1 : 13) {
        std::memset(to, 0xee, sizeof to);
        copy_tail_last(to + to_offset, from.data() + from_offset, length);
        ASSERT_EQ(std::memcmp(to + to_offset, from.data() + from_offset, length), 0) << length;
        for (size_t i = 0; i < to_offset; ++i) ASSERT_EQ(to[i], std::byte{0xee});
        for (size_t i = to_offset + length; i < sizeof to; ++i) ASSERT_EQ(to[i], std::byte{0xee});
      }
    }
  }
}

TEST(CopyTailLast, CopiesLargeBlocks) {
  std::vector<std::byte> from(3'000'001);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 2654435761u >> 11);
  std::vector<std::byte> to(from.size() + 3);
  copy_tail_last(to.data() + 3, from.data(), from.size());
  EXPECT_EQ(std::memcmp(to.data() + 3, from.data(), from.size()), 0);
}

/// What ib_write_lat does: spin on the last byte, then use the rest. Rounds by
/// FLEXINS_POLLER_ROUNDS.
TEST(CopyTailLast, PollerOfTheLastByteFindsAllOthersInPlace) {
  constexpr size_t kMaxSize = 9000;
  const char* wanted = std::getenv("FLEXINS_POLLER_ROUNDS");
  const uint32_t rounds = wanted != nullptr ? std::strtoul(wanted, nullptr, 10) : 4'000;
  const auto memory = std::make_unique<std::byte[]>(kMaxSize + 64);
  const auto size_of = [](uint32_t round) { return 1 + round * 7919ull % kMaxSize; };
  const auto offset_of = [](uint32_t round) { return round / 3 % 16; };
  const auto stamp_of = [](uint32_t round) { return static_cast<std::byte>(1 + round % 255); };
  std::atomic<uint32_t> seen{0};
  std::atomic<bool> stop{false};

  std::thread writer([&] {
    std::vector<std::byte> source(kMaxSize);
    for (uint32_t round = 1; round <= rounds && !stop; ++round) {
      std::memset(source.data(), static_cast<int>(stamp_of(round)), size_of(round));
      copy_tail_last(memory.get() + offset_of(round), source.data(), size_of(round));
      while (seen.load(std::memory_order_acquire) != round && !stop) std::this_thread::yield();
    }
  });
  uint64_t misplaced = 0;
  uint32_t spins = 0;
  for (uint32_t round = 1; round <= rounds; ++round) {
    const std::byte* message = memory.get() + offset_of(round);
    const size_t size = size_of(round);
    auto* last = reinterpret_cast<const uint8_t*>(message + size - 1);
    while (__atomic_load_n(last, __ATOMIC_ACQUIRE) != static_cast<uint8_t>(stamp_of(round))) {
      if (++spins % 256 == 0) std::this_thread::yield();
    }
    for (size_t i = 0; i < size; ++i) misplaced += message[i] != stamp_of(round);
    // Cleared, so that the next round cannot pass on what this one left.
    std::memset(memory.get(), 0, kMaxSize + 64);
    seen.store(round, std::memory_order_release);
  }
  stop = true;
  writer.join();
  EXPECT_EQ(misplaced, 0u);
}

}  // namespace
}  // namespace flexins::memory
