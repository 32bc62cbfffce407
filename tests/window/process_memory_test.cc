#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "child.h"
#include "window/host.h"

namespace flexins::window {
namespace {

std::shared_ptr<ProcessMemory> open_memory_of(int pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/mem";
  auto memory = ProcessMemory::open(base::UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)), pid);
  EXPECT_TRUE(memory.ok()) << (memory.ok() ? "" : memory.error().message);
  return memory.ok() ? std::move(memory).value() : nullptr;
}

uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

TEST(ProcessMemory, ReadsAndWritesAtEverySizeAndAlignment) {
  const auto memory = open_memory_of(::getpid());
  std::vector<std::byte> theirs(200'000);
  std::vector<std::byte> ours(theirs.size());
  uint8_t value = 0;
  for (size_t length : {1, 7, 8, 9, 15, 16, 100, 4096, 5000, 65'536, 65'537, 150'000}) {
    for (size_t offset = 0; offset < 17; ++offset) {
      for (size_t i = 0; i < length; ++i) ours[i] = static_cast<std::byte>(value += 3);
      std::memset(theirs.data(), 0, length + 40);
      ASSERT_EQ(memory->write(address_of(theirs.data() + offset), {ours.data(), length}),
                memory::AccessResult::kDone);
      ASSERT_EQ(std::memcmp(theirs.data() + offset, ours.data(), length), 0);
      ASSERT_EQ(theirs[offset + length], std::byte{0});
      std::vector<std::byte> back(length);
      ASSERT_EQ(memory->read(address_of(theirs.data() + offset), back),
                memory::AccessResult::kDone);
      ASSERT_EQ(std::memcmp(back.data(), ours.data(), length), 0);
    }
  }
}

TEST(ProcessMemory, UnmappedMemoryIsAnErrorAndTheRestStaysReachable) {
  const auto memory = open_memory_of(::getpid());
  void* page = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::array<std::byte, 4096> buffer{};
  EXPECT_EQ(memory->write(address_of(page) + 4000, buffer), memory::AccessResult::kDone);
  ::munmap(static_cast<char*>(page) + 4096, 4096);
  EXPECT_EQ(memory->write(address_of(page) + 4000, buffer), memory::AccessResult::kFailed);
  EXPECT_EQ(memory->read(address_of(page) + 4000, buffer), memory::AccessResult::kFailed);
  EXPECT_EQ(memory->read(0, buffer), memory::AccessResult::kFailed);
  EXPECT_EQ(memory->read(UINT64_MAX - 100, {buffer.data(), 50}), memory::AccessResult::kFailed);
  EXPECT_EQ(memory->read(address_of(page), buffer), memory::AccessResult::kDone);
  ::munmap(page, 4096);
}

TEST(ProcessMemory, DeathOfTheProcessIsAnError) {
  static std::array<std::byte, 64> bytes{};
  Child child([](int in, int out) {
    char token = 'r';
    (void)!::write(out, &token, 1);
    (void)!::read(in, &token, 1);
    return 0;
  });
  ASSERT_EQ(child.receive(), 'r');
  const auto memory = open_memory_of(child.pid());
  std::array<std::byte, 64> buffer{};
  EXPECT_EQ(memory->read(address_of(bytes.data()), buffer), memory::AccessResult::kDone);
  child.kill();
  EXPECT_EQ(memory->read(address_of(bytes.data()), buffer), memory::AccessResult::kFailed);
  EXPECT_EQ(memory->write(address_of(bytes.data()), buffer), memory::AccessResult::kFailed);
}

TEST(ProcessMemory, RefusesWhatIsNotThePeersMemory) {
  const auto reason = [](int fd, int pid) {
    auto opened = ProcessMemory::open(base::UniqueFd(fd), pid);
    EXPECT_FALSE(opened.ok());
    if (opened.ok()) return std::string("accepted");
    EXPECT_EQ(opened.error().code, EINVAL);
    return opened.error().message;
  };
  const int self = ::getpid();
  EXPECT_THAT(reason(-1, self), testing::HasSubstr("not open"));
  EXPECT_THAT(reason(::memfd_create("mem", MFD_CLOEXEC), self), testing::HasSubstr("procfs"));
  EXPECT_THAT(reason(::open("/dev/null", O_RDWR), self), testing::HasSubstr("procfs"));
  EXPECT_THAT(reason(::open("/proc/self/maps", O_RDONLY), self), testing::HasSubstr("maps"));
  EXPECT_THAT(reason(::open("/proc/self/mem", O_RDWR), ::getppid()), testing::HasSubstr("not /"));
  EXPECT_THAT(reason(::open("/proc/self/mem", O_RDONLY), self), testing::HasSubstr("writing"));
  EXPECT_THAT(reason(::open("/proc/thread-self/mem", O_RDWR), self), testing::HasSubstr("task"));
  EXPECT_TRUE(ProcessMemory::open(base::UniqueFd(::open("/proc/self/mem", O_RDWR)), self).ok());
}

/// Starved of the processor, the helper may have to be asked again.
template <typename Access>
bool succeeds(Access&& access) {
  memory::AccessResult result = memory::AccessResult::kLater;
  while (result == memory::AccessResult::kLater) result = access();
  return result == memory::AccessResult::kDone;
}

TEST(ProcessMemory, ServesSeveralThreads) {
  const auto memory = open_memory_of(::getpid());
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::byte> target(5000);
      std::vector<std::byte> buffer(5000);
      for (int round = 0; round < 200; ++round) {
        const auto stamp = static_cast<std::byte>(t * 80 + round % 80);
        std::fill(buffer.begin(), buffer.end(), stamp);
        const uint64_t at = address_of(target.data());
        if (!succeeds([&] { return memory->write(at, buffer); })) ++wrong;
        if (target != buffer) ++wrong;
        if (!succeeds([&] { return memory->read(at, buffer); })) ++wrong;
        if (target != buffer) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace flexins::window
