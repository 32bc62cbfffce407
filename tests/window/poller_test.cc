#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "base/fault_guard.h"
#include "memory/region.h"
#include "test_memory.h"
#include "window/local_client.h"

namespace flexins::window {
namespace {

using memory::WindowKind;

/// A program that spins on the last byte of what is placed for it, in a window of each kind.
class PollerTest : public testing::TestWithParam<WindowKind> {
 protected:
  static constexpr uint64_t kMaxSize = 9000;
  static constexpr uint64_t kRoom = 3 * kPage;

  void SetUp() override {
    base::install_fault_guard();
    if (GetParam() == WindowKind::kShared) {
      base::UniqueFd fd(::memfd_create("polled", MFD_CLOEXEC));
      ASSERT_EQ(::ftruncate(fd.get(), kRoom), 0);
      ::mmap(pages_.data(), kRoom, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd.get(), 0);
      open(fd);
    } else {
      open(base::UniqueFd());
    }
  }
  void open(const base::UniqueFd&) {
    auto prepared = client_.prepare(pages_.address(), kRoom, true, false);
    ASSERT_TRUE(prepared.ok());
    auto process =
        ProcessMemory::open(base::UniqueFd(::dup(client_.memory_descriptor())), ::getpid());
    region_.window = open_of(prepared.value(), pages_.address(), kRoom, process.value());
    region_.address = region_.window_base = pages_.address();
    region_.length = kRoom;
  }
  const Pages pages_{3};
  LocalClient client_{
      ClientSettings{GetParam() == WindowKind::kShared, GetParam() == WindowKind::kAdopted}};
  memory::Region region_;
};

TEST_P(PollerTest, NeverSeesTheLastByteBeforeTheRest) {
  if (region_.window->kind() != GetParam()) GTEST_SKIP() << "this kind cannot be had here";
  const uint32_t round_count = rounds("FLEXINS_POLLER_ROUNDS", 800);
  const auto size_of = [](uint32_t round) { return 1 + round * 7919ull % kMaxSize; };
  const auto offset_of = [](uint32_t round) { return round / 3 % 16; };
  const auto stamp_of = [](uint32_t round) { return static_cast<std::byte>(1 + round % 255); };
  std::atomic<uint32_t> seen{0};
  std::atomic<uint32_t> failures{0};
  std::thread engine([&] {
    std::vector<std::byte> source(kMaxSize);
    for (uint32_t round = 1; round <= round_count; ++round) {
      const uint64_t size = size_of(round);
      std::memset(source.data(), static_cast<int>(stamp_of(round)), size);
      const iovec pieces[2] = {{source.data(), size / 3},
                               {source.data() + size / 3, size - size / 3}};
      if (memory::place(region_, pages_.address() + offset_of(round), pieces, 0, size) !=
          memory::AccessResult::kDone) {
        ++failures;
        return;
      }
      while (seen.load(std::memory_order_acquire) != round) std::this_thread::yield();
    }
  });
  uint64_t misplaced = 0;
  uint32_t spins = 0;
  for (uint32_t round = 1; round <= round_count && failures == 0; ++round) {
    const std::byte* message = pages_.data() + offset_of(round);
    const uint64_t size = size_of(round);
    const auto* last = reinterpret_cast<const uint8_t*>(message + size - 1);
    while (__atomic_load_n(last, __ATOMIC_ACQUIRE) != static_cast<uint8_t>(stamp_of(round)) &&
           failures == 0) {
      if (++spins % 256 == 0) std::this_thread::yield();
    }
    for (uint64_t i = 0; i < size; ++i) misplaced += message[i] != stamp_of(round);
    std::memset(pages_.data(), 0, kRoom);
    seen.store(round, std::memory_order_release);
  }
  engine.join();
  EXPECT_EQ(misplaced, 0u);
  EXPECT_EQ(failures, 0u);
}

INSTANTIATE_TEST_SUITE_P(Kinds, PollerTest,
                         testing::Values(WindowKind::kShared, WindowKind::kAdopted,
                                         WindowKind::kDescriptor),
                         [](const auto& kind) { return std::string(to_string(kind.param)); });

}  // namespace
}  // namespace flexins::window
