#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "child.h"
#include "test_memory.h"
#include "window/local_client.h"
#include "window/page_mover.h"

namespace flexins::window {
namespace {

using memory::WindowKind;

class AdoptionTest : public testing::Test {
 protected:
  void SetUp() override {
    if (PageMover::create() == nullptr) GTEST_SKIP() << "no userfaultfd in user mode here";
  }
  Preparation prepare(uint64_t address, uint64_t length) {
    auto prepared = client_.prepare(address, length, true, false);
    EXPECT_TRUE(prepared.ok()) << (prepared.ok() ? "" : prepared.error().message);
    return prepared.ok() ? prepared.value() : Preparation{};
  }
  [[nodiscard]] static uint64_t object_bytes(int fd) {
    struct stat status = {};
    EXPECT_EQ(::fstat(fd, &status), 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }
  LocalClient client_{ClientSettings{}};
};

TEST_F(AdoptionTest, BothSidesSeeTheSamePages) {
  const Pages pages(20);
  fill(pages.data(), pages.bytes(), 1);
  const auto preparation = prepare(pages.address(), pages.bytes());
  ASSERT_EQ(preparation.segments.size(), 1u);
  EXPECT_EQ(preparation.segments[0].kind, WindowKind::kAdopted);
  EXPECT_TRUE(is_filled(pages.data(), pages.bytes(), 1));
  auto window = open_of(preparation, pages.address(), pages.bytes());
  ASSERT_NE(window, nullptr);
  EXPECT_FALSE(window->needs_guard()) << "sealed";
  EXPECT_EQ(window->kind(), WindowKind::kAdopted);
  const auto extent = window->resolve(pages.address(), pages.bytes());
  ASSERT_EQ(extent.length, pages.bytes());
  EXPECT_TRUE(is_filled(extent.data, pages.bytes(), 1));
  fill(extent.data, pages.bytes(), 2);
  EXPECT_TRUE(is_filled(pages.data(), pages.bytes(), 2));
  fill(pages.data(), pages.bytes(), 3);
  EXPECT_TRUE(is_filled(extent.data, pages.bytes(), 3));
  window.reset();

  client_.release(preparation.ticket);
  EXPECT_TRUE(is_filled(pages.data(), pages.bytes(), 3));
  EXPECT_FALSE(is_adopted(pages.address()));
  // Private memory again: a page given back reads as zero.
  ASSERT_EQ(::madvise(pages.data(), kPage, MADV_DONTNEED), 0);
  EXPECT_EQ(pages.data()[5], std::byte{0});
}

TEST_F(AdoptionTest, PartialPagesStayBehind) {
  const Pages pages(4);
  fill(pages.data(), pages.bytes(), 7);
  const uint64_t begin = pages.address() + 100;
  const uint64_t length = 3 * kPage;
  const auto preparation = prepare(begin, length);
  ASSERT_EQ(preparation.segments.size(), 1u);
  EXPECT_EQ(preparation.segments[0].address, pages.address() + kPage);
  EXPECT_EQ(preparation.segments[0].length, 2 * kPage);
  auto process =
      ProcessMemory::open(base::UniqueFd(::dup(client_.memory_descriptor())), ::getpid());
  ASSERT_TRUE(process.ok());
  auto window = open_of(preparation, begin, length, process.value());
  std::vector<std::byte> bytes(length);
  ASSERT_EQ(window->read(begin, bytes), memory::AccessResult::kDone);
  EXPECT_EQ(std::memcmp(bytes.data(), pages.data() + 100, length), 0);
  std::fill(bytes.begin(), bytes.end(), std::byte{0x5a});
  ASSERT_EQ(window->write(begin, bytes), memory::AccessResult::kDone);
  EXPECT_EQ(std::memcmp(bytes.data(), pages.data() + 100, length), 0);
  EXPECT_NE(pages.data()[99], std::byte{0x5a});
  EXPECT_NE(pages.data()[100 + length], std::byte{0x5a});
  client_.release(preparation.ticket);
  EXPECT_EQ(std::memcmp(bytes.data(), pages.data() + 100, length), 0);
}

TEST_F(AdoptionTest, SmallAndHeapMemory) {
  std::vector<char> heap(1 << 20, 'h');
  for (const size_t length : {1ul, 100ul, 4096ul, 20'000ul, heap.size()}) {
    const auto preparation = prepare(address_of(heap.data()), length);
    EXPECT_TRUE(std::all_of(heap.begin(), heap.end(), [](char c) { return c == 'h'; }));
    client_.release(preparation.ticket);
    EXPECT_TRUE(std::all_of(heap.begin(), heap.end(), [](char c) { return c == 'h'; }));
  }
  EXPECT_TRUE(prepare(0, 0).segments.empty());
}

TEST_F(AdoptionTest, OverlappingRegistrationsKeepPagesAdoptedUntilTheLast) {
  const Pages pages(10);
  fill(pages.data(), pages.bytes(), 4);
  const auto whole = prepare(pages.address(), 6 * kPage);
  const auto part = prepare(pages.address() + 4 * kPage, 6 * kPage);
  ASSERT_EQ(part.segments.size(), 1u) << "old and new pages are neighbours";
  EXPECT_EQ(part.segments[0].length, 6 * kPage);
  client_.release(whole.ticket);
  EXPECT_FALSE(is_adopted(pages.address() + 3 * kPage));
  EXPECT_TRUE(is_adopted(pages.address() + 4 * kPage));
  auto window = open_of(part, pages.address() + 4 * kPage, 6 * kPage);
  EXPECT_TRUE(window->resolve(pages.address() + 4 * kPage, 1).data != nullptr);
  client_.release(whole.ticket);
  EXPECT_TRUE(is_adopted(pages.address() + 4 * kPage)) << "a ticket counts once";
  client_.release(part.ticket);
  EXPECT_FALSE(is_adopted(pages.address() + 4 * kPage));
  EXPECT_TRUE(is_filled(pages.data(), pages.bytes(), 4));
}

TEST_F(AdoptionTest, SparseMemoryStaysSparse) {
  constexpr uint64_t kBytes = 64ull << 30;
  const Pages pages(kBytes / kPage);
  std::vector<uint64_t> touched;
  for (uint64_t at = 12345; at < kBytes; at += 3'000'000'017) touched.push_back(at);
  for (const uint64_t at : touched) pages.data()[at] = std::byte{9};
  volatile std::byte seen = pages.data()[1ull << 33];  // maps the zero page
  (void)seen;
  const auto preparation = prepare(pages.address(), kBytes);
  ASSERT_EQ(preparation.segments.size(), 1u);
  EXPECT_EQ(preparation.segments[0].length, kBytes);
  EXPECT_EQ(object_bytes(preparation.segments[0].fd), touched.size() * kPage);
  auto window = open_of(preparation, pages.address(), kBytes);
  EXPECT_EQ(object_bytes(preparation.segments[0].fd), touched.size() * kPage);
  for (const uint64_t at : touched) {
    EXPECT_EQ(*window->resolve(pages.address() + at, 1).data, std::byte{9});
    EXPECT_EQ(pages.data()[at], std::byte{9});
  }
  *window->resolve(pages.address() + 77, 1).data = std::byte{8};
  EXPECT_EQ(pages.data()[77], std::byte{8});
  window.reset();
  const int fd = ::dup(preparation.segments[0].fd);
  client_.release(preparation.ticket);
  for (const uint64_t at : touched) EXPECT_EQ(pages.data()[at], std::byte{9});
  EXPECT_EQ(pages.data()[77], std::byte{8});
  EXPECT_EQ(pages.data()[1ull << 34], std::byte{0});
  EXPECT_EQ(object_bytes(fd), 0u) << "given back";
  ::close(fd);
}

TEST_F(AdoptionTest, MappingsDoNotPileUp) {
  const Pages pages(4096);
  fill(pages.data(), pages.bytes(), 5);
  const auto count = [] { return read_mappings().size(); };
  const size_t before = count();
  for (int round = 0; round < 4; ++round) {
    const auto preparation = prepare(pages.address(), pages.bytes());
    EXPECT_LE(count(), before + 1);
    client_.release(preparation.ticket);
    EXPECT_LE(count(), before + 1);
  }
  EXPECT_TRUE(is_filled(pages.data(), pages.bytes(), 5));
}

TEST_F(AdoptionTest, ReadOnlyAndUnmappedMemory) {
  const Pages pages(3, PROT_READ);
  EXPECT_EQ(client_.prepare(pages.address(), kPage, true, false).error().code, EFAULT);
  const auto readable = client_.prepare(pages.address(), kPage, false, false);
  ASSERT_TRUE(readable.ok());
  EXPECT_TRUE(readable.value().segments.empty());
  EXPECT_EQ(client_.prepare(pages.address(), 4 * kPage, false, false).error().code, EFAULT);
  EXPECT_EQ(client_.prepare(0, kPage, false, false).error().code, EFAULT);
  EXPECT_EQ(client_.prepare(UINT64_MAX - 5, kPage, false, false).error().code, EFAULT);
  EXPECT_TRUE(client_.prepare(0, 1ull << 46, false, true).ok()) << "on demand";
}

TEST_F(AdoptionTest, LeavesStacksAlone) {
  std::array<std::byte, 8 * kPage> here{};
  EXPECT_TRUE(prepare(address_of(here.data()), here.size()).segments.empty());
  std::thread([this] {
    std::array<std::byte, 8 * kPage> there{};
    EXPECT_TRUE(prepare(address_of(there.data()), there.size()).segments.empty());
  }).join();
}

TEST_F(AdoptionTest, LargeBlocksOfTheAllocatorAreAdopted) {
  // Whatever mapping they have become part of, the thread's own data included.
  for (const size_t bytes : {200'000ul, 1ul << 20, 16ul << 20}) {
    const std::vector<char> block(bytes, 'b');
    const auto preparation = prepare(address_of(block.data()), bytes);
    uint64_t adopted = 0;
    for (const auto& segment : preparation.segments) adopted += segment.length;
    EXPECT_GE(adopted, bytes - 8 * kPage);
    client_.release(preparation.ticket);
  }
}

TEST_F(AdoptionTest, LeavesLockedMemoryAlone) {
  const Pages pages(4);
  // The raw call: sanitizers make mlock do nothing.
  if (::syscall(SYS_mlock, pages.data(), kPage) != 0) GTEST_SKIP() << "mlock is not permitted";
  EXPECT_TRUE(prepare(pages.address(), pages.bytes()).segments.empty());
}

TEST_F(AdoptionTest, LeavesMemoryThatChildrenMustFindEmptyAlone) {
  const Pages pages(4);
  ASSERT_EQ(::madvise(pages.data() + kPage, kPage, MADV_WIPEONFORK), 0);
  const auto preparation = prepare(pages.address(), pages.bytes());
  ASSERT_EQ(preparation.segments.size(), 2u);
  EXPECT_EQ(preparation.segments[0].length, kPage);
  EXPECT_EQ(preparation.segments[1].address, pages.address() + 2 * kPage);
  client_.release(preparation.ticket);
}

TEST_F(AdoptionTest, LeavesMemoryOfAnotherUserfaultfdAlone) {
  const Pages pages(4);
  const int other = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
  struct uffdio_api api = {};
  api.api = UFFD_API;
  ASSERT_EQ(::ioctl(other, UFFDIO_API, &api), 0);
  struct uffdio_register range = {};
  range.range = {pages.address(), kPage};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  ASSERT_EQ(::ioctl(other, UFFDIO_REGISTER, &range), 0);
  const auto preparation = prepare(pages.address(), pages.bytes());
  EXPECT_FALSE(is_adopted(pages.address()));
  EXPECT_TRUE(is_adopted(pages.address() + kPage));
  client_.release(preparation.ticket);
  ::close(other);
}

TEST_F(AdoptionTest, MemoryUnmappedWhileRegisteredIsNotTouchedAtRelease) {
  const Pages pages(6);
  fill(pages.data(), pages.bytes(), 3);
  const auto preparation = prepare(pages.address(), pages.bytes());
  const int fd = ::dup(preparation.segments[0].fd);
  auto window = open_of(preparation, pages.address(), pages.bytes());
  ASSERT_EQ(::munmap(pages.data() + kPage, kPage), 0);
  void* fresh = ::mmap(pages.data() + 3 * kPage, kPage, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  std::memset(fresh, 0x77, kPage);
  std::array<std::byte, 8> bytes{};
  EXPECT_EQ(window->write(pages.address() + kPage, bytes), memory::AccessResult::kDone)
      << "lands nowhere, harms nobody";
  window.reset();
  client_.release(preparation.ticket);
  EXPECT_TRUE(mapping_line(pages.address() + kPage).empty());
  EXPECT_EQ(pages.data()[3 * kPage], std::byte{0x77});
  EXPECT_FALSE(is_adopted(pages.address()));
  EXPECT_TRUE(is_filled(pages.data(), kPage, 3));
  EXPECT_EQ(object_bytes(fd), 0u);
  ::close(fd);
  ::mmap(pages.data() + kPage, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

TEST_F(AdoptionTest, NewMemoryAtTheSamePlaceIsAdoptedAnew) {
  const Pages pages(4);
  fill(pages.data(), pages.bytes(), 3);
  const auto old = prepare(pages.address(), pages.bytes());
  ::mmap(pages.data(), pages.bytes(), PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  const auto young = prepare(pages.address(), pages.bytes());
  ASSERT_EQ(young.segments.size(), 1u);
  EXPECT_EQ(pages.data()[kPage], std::byte{0}) << "nothing of the old content";
  client_.release(old.ticket);
  EXPECT_TRUE(is_adopted(pages.address()));
  client_.release(young.ticket);
  EXPECT_FALSE(is_adopted(pages.address()));
}

TEST_F(AdoptionTest, NotesOfTheProgramsOwnCalls) {
  const Pages pages(4);
  fill(pages.data(), pages.bytes(), 3);
  const auto preparation = prepare(pages.address(), pages.bytes());
  const int fd = ::dup(preparation.segments[0].fd);
  ASSERT_EQ(::madvise(pages.data(), kPage, MADV_DONTNEED), 0);
  client_.note_dontneed(pages.address(), kPage);
  EXPECT_EQ(pages.data()[0], std::byte{0});
  EXPECT_EQ(pages.data()[kPage], static_cast<std::byte>(3 + 1 + 4096 * 31));
  client_.note_unmapped(pages.address(), pages.bytes());
  EXPECT_TRUE(is_adopted(pages.address())) << "it is still mapped, so the note is late";
  ASSERT_EQ(::munmap(pages.data() + 2 * kPage, 2 * kPage), 0);
  client_.note_unmapped(pages.address() + 2 * kPage, 2 * kPage);
  EXPECT_LE(object_bytes(fd), 2 * kPage);
  client_.release(preparation.ticket);
  ::close(fd);
  ::mmap(pages.data() + 2 * kPage, 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
         -1, 0);
}

TEST_F(AdoptionTest, SettingsFromTheEnvironment) {
  const auto settings = [](const char* adopt, const char* window) {
    ::setenv("FLEXINS_ADOPT", adopt, 1);
    ::setenv("FLEXINS_WINDOW", window, 1);
    const auto read = ClientSettings::from_environment();
    ::unsetenv("FLEXINS_ADOPT");
    ::unsetenv("FLEXINS_WINDOW");
    return std::pair(read.shared, read.adopted);
  };
  EXPECT_EQ(settings("1", ""), std::pair(true, true));
  EXPECT_EQ(settings("0", ""), std::pair(true, false));
  EXPECT_EQ(settings("1", "shared"), std::pair(true, false));
  EXPECT_EQ(settings("1", "adopted"), std::pair(false, true));
  EXPECT_EQ(settings("1", "descriptor"), std::pair(false, false));
  const Pages pages(4);
  LocalClient without(ClientSettings{true, false});
  const auto prepared = without.prepare(pages.address(), pages.bytes(), true, false);
  EXPECT_TRUE(prepared.value().segments.empty());
  EXPECT_FALSE(is_adopted(pages.address()));
}

/// Writers that never stop while pages go to and fro. Returns the number of lost stores.
uint64_t lost_stores(std::byte* data, uint64_t bytes, unsigned round_count) {
  LocalClient client{ClientSettings{}};
  std::atomic<bool> stop{false};
  constexpr int kWriters = 2;
  std::array<std::atomic<uint64_t>, kWriters> lost{};
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      // Each writer owns every other word and knows what it stored last: one count per sweep.
      const uint64_t words = bytes / sizeof(uint64_t);
      auto* memory = reinterpret_cast<std::atomic<uint64_t>*>(data);
      const uint64_t stride = 97 * kWriters;
      for (uint64_t sweep = 1; !stop; ++sweep) {
        for (uint64_t i = static_cast<uint64_t>(w); i < words; i += stride) {
          if (memory[i].load(std::memory_order_relaxed) != sweep - 1) ++lost[w];
          memory[i].store(sweep, std::memory_order_relaxed);
        }
      }
    });
  }
  for (unsigned round = 0; round < round_count; ++round) {
    const uint64_t skip = round % 3 * 1000;
    auto prepared = client.prepare(address_of(data) + skip, bytes - skip, true, false);
    if (!prepared.ok() || prepared->segments.empty()) ++lost[0];
    client.release(prepared->ticket);
    if (round % 16 == 15) std::this_thread::yield();
  }
  stop = true;
  for (auto& writer : writers) writer.join();
  return lost[0] + lost[1];
}

uint64_t lost_stores_everywhere() {
  const unsigned count = rounds("FLEXINS_ADOPTION_ROUNDS", 40);
  const Pages dense(64);
  std::memset(dense.data(), 0, dense.bytes());
  const Pages untouched(512);  // first stores meet the move too
  std::vector<uint64_t> heap(30'000);
  return lost_stores(dense.data(), dense.bytes(), count) +
         lost_stores(untouched.data(), untouched.bytes(), count) +
         lost_stores(reinterpret_cast<std::byte*>(heap.data()), heap.size() * 8, count);
}

TEST_F(AdoptionTest, NoStoreOfAConcurrentWriterIsLost) { EXPECT_EQ(lost_stores_everywhere(), 0u); }

TEST_F(AdoptionTest, NoStoreIsLostForAnOrdinaryUser) {
  if (::getuid() != 0) GTEST_SKIP() << "already an ordinary user";
  Child child([](int, int) {
    constexpr unsigned kNobody = 65534;
    if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) return 2;
    ::prctl(PR_SET_DUMPABLE, 1);  // as after an exec: /proc/self is the user's
    return lost_stores_everywhere() == 0 ? 0 : 1;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(AdoptionTest, CallsThatMeetAMoveCanBeRepeated) {
  const Pages pages(256);
  std::memset(pages.data(), 1, pages.bytes());
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> failed{0};
  std::thread reader([&] {
    uint64_t at = 0;
    while (!stop) {
      char token = 'x';
      (void)!::write(ends[1], &token, 1);
      ssize_t got = -1;
      for (;;) {
        const uint64_t count = page_move_count();
        got = ::read(ends[0], pages.data() + at, 1);
        if (got != -1 || errno != EFAULT || !page_moves_since(count)) break;
      }
      if (got != 1) ++failed;
      at = (at + 4097) % pages.bytes();
    }
  });
  for (unsigned round = 0; round < rounds("FLEXINS_ADOPTION_ROUNDS", 40); ++round) {
    const auto preparation = prepare(pages.address(), pages.bytes());
    client_.release(preparation.ticket);
  }
  stop = true;
  reader.join();
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_EQ(failed, 0u);
}

}  // namespace
}  // namespace flexins::window
