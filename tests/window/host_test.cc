#include "window/host.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "base/fault_guard.h"

namespace flexins::window {
namespace {

using memory::WindowKind;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kBase = 0x7000'0000'0000;

base::UniqueFd object_of(uint64_t pages, bool sealed) {
  base::UniqueFd fd(::memfd_create("object", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(pages * kPage)), 0);
  const int seals = sealed ? F_SEAL_SHRINK | F_SEAL_GROW : 0;
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

/// Reads and writes a vector; stands for the application behind a descriptor.
class FakeProcess final : public ProcessMemory {
 public:
  memory::AccessResult read(uint64_t address, std::span<std::byte> out) noexcept override {
    if (dead) return memory::AccessResult::kFailed;
    std::memcpy(out.data(), bytes.data() + (address - kBase), out.size());
    return memory::AccessResult::kDone;
  }
  memory::AccessResult write(uint64_t address, std::span<const std::byte> in) noexcept override {
    if (dead) return memory::AccessResult::kFailed;
    std::memcpy(bytes.data() + (address - kBase), in.data(), in.size());
    return memory::AccessResult::kDone;
  }
  void settle() noexcept override { ++settled; }
  int settled = 0;
  std::vector<std::byte> bytes = std::vector<std::byte>(16 * kPage);
  bool dead = false;
};

size_t mappings_of(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find(name) != std::string::npos;
  return count;
}

class HostWindowTest : public testing::Test {
 protected:
  void SetUp() override { base::install_fault_guard(); }

  static HostSegment segment(uint64_t page, uint64_t pages, int fd, uint64_t offset_page = 0) {
    HostSegment result;
    result.address = kBase + page * kPage;
    result.length = pages * kPage;
    result.fd = fd;
    result.offset = offset_page * kPage;
    return result;
  }
  static int error_of(uint64_t base, uint64_t length, std::vector<HostSegment> segments) {
    auto window = open_window(base, length, segments, nullptr);
    return window.ok() ? 0 : window.error().code;
  }
};

TEST_F(HostWindowTest, MixesMappedAndUnmappedRuns) {
  const auto fd = object_of(8, true);
  const auto process = std::make_shared<FakeProcess>();
  const std::vector<HostSegment> segments{segment(1, 2, fd.get()), segment(4, 1, fd.get(), 5)};
  auto opened = open_window(kBase + 100, 6 * kPage, segments, process);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  memory::Window& window = *opened.value();
  EXPECT_FALSE(window.needs_guard());

  const auto first = window.resolve(kBase + 100, 6 * kPage);
  EXPECT_EQ(first.data, nullptr);
  EXPECT_EQ(first.length, kPage - 100);
  const auto second = window.resolve(kBase + kPage + 10, 5 * kPage);
  EXPECT_NE(second.data, nullptr);
  EXPECT_EQ(second.length, 2 * kPage - 10);
  EXPECT_EQ(window.resolve(kBase + 3 * kPage, 100).data, nullptr);
  EXPECT_EQ(window.resolve(kBase + 4 * kPage + 1, 5).length, 5u);
  EXPECT_EQ(window.resolve(kBase + 5 * kPage, kPage + 100).length, kPage + 100);

  std::vector<std::byte> out(6 * kPage);
  std::vector<std::byte> in(6 * kPage);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::byte>(i / 3);
  ASSERT_EQ(window.write(kBase + 100, in), memory::AccessResult::kDone);
  ASSERT_EQ(window.read(kBase + 100, out), memory::AccessResult::kDone);
  EXPECT_EQ(in, out);
  std::array<std::byte, 16> through{};
  ASSERT_EQ(::pread(fd.get(), through.data(), 16, 5 * kPage), 16);
  EXPECT_EQ(std::memcmp(through.data(), in.data() + 4 * kPage - 100, 16), 0);
  EXPECT_EQ(process->bytes[100], in[0]);

  process->dead = true;
  EXPECT_EQ(window.read(kBase + 100, out), memory::AccessResult::kFailed);
  EXPECT_EQ(window.read(kBase + kPage, {out.data(), 2 * kPage}), memory::AccessResult::kDone);
}

TEST_F(HostWindowTest, ReportsTheKindThatReachesMost) {
  const auto fd = object_of(8, true);
  std::vector<HostSegment> segments{segment(0, 3, fd.get()), segment(4, 2, fd.get(), 4)};
  segments[0].kind = WindowKind::kAdopted;
  EXPECT_EQ(open_window(kBase, 8 * kPage, segments, nullptr).value()->kind(), WindowKind::kAdopted);
  segments[0].kind = WindowKind::kShared;
  EXPECT_EQ(open_window(kBase, 8 * kPage, segments, nullptr).value()->kind(), WindowKind::kShared);
  EXPECT_EQ(open_window(kBase, 80 * kPage, segments, nullptr).value()->kind(),
            WindowKind::kDescriptor);
  EXPECT_EQ(open_window(kBase, kPage, {}, nullptr).value()->kind(), WindowKind::kDescriptor);
}

TEST_F(HostWindowTest, WithoutProcessUncoveredBytesFail) {
  auto window = open_window(kBase, kPage, {}, nullptr);
  std::array<std::byte, 8> bytes{};
  EXPECT_EQ(window.value()->read(kBase, bytes), memory::AccessResult::kFailed);
  EXPECT_EQ(window.value()->write(kBase, bytes), memory::AccessResult::kFailed);
}

TEST_F(HostWindowTest, RefusesSegmentsThatDoNotFit) {
  const auto fd = object_of(4, false);
  const uint64_t length = 8 * kPage;
  EXPECT_EQ(error_of(kBase, length, {segment(0, 4, fd.get())}), 0);
  EXPECT_EQ(error_of(kBase, length, {segment(0, 5, fd.get())}), EINVAL) << "beyond the object";
  EXPECT_EQ(error_of(kBase, length, {segment(0, 1, fd.get(), 4)}), EINVAL);
  EXPECT_EQ(error_of(kBase, length, {segment(8, 1, fd.get())}), EINVAL) << "outside";
  EXPECT_EQ(error_of(kBase + kPage, length, {segment(0, 1, fd.get())}), EINVAL);
  EXPECT_EQ(error_of(kBase, length, {segment(0, 2, fd.get()), segment(1, 2, fd.get())}), EINVAL);
  EXPECT_EQ(error_of(kBase, length, {segment(2, 1, fd.get()), segment(0, 1, fd.get())}), EINVAL);
  EXPECT_EQ(error_of(kBase, length, {segment(0, 0, fd.get())}), EINVAL);
  EXPECT_EQ(error_of(kBase, length, {segment(0, 1, -1)}), EINVAL);
  EXPECT_EQ(error_of(UINT64_MAX - kPage, length, {}), EINVAL);
  auto odd = segment(0, 1, fd.get());
  odd.offset = 100;
  EXPECT_EQ(error_of(kBase, length, {odd}), EINVAL);
  odd = segment(0, 1, fd.get());
  odd.address += 8;
  EXPECT_EQ(error_of(kBase, length, {odd}), EINVAL);
  odd = segment(0, 1, fd.get());
  odd.offset = -kPage;
  EXPECT_EQ(error_of(kBase, length, {odd}), EINVAL);
  odd = segment(0, 1, fd.get());
  odd.length = -kPage;
  EXPECT_EQ(error_of(kBase, length, {odd}), EINVAL);
  odd = segment(0, 1, fd.get());
  odd.kind = WindowKind::kDirect;
  EXPECT_EQ(error_of(kBase, length, {odd}), EINVAL);
}

TEST_F(HostWindowTest, RefusesObjectsThatAreNotMemory) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  EXPECT_EQ(error_of(kBase, kPage, {segment(0, 1, ends[0])}), EINVAL);
  ::close(ends[0]);
  ::close(ends[1]);
  base::UniqueFd program(::open("/proc/self/exe", O_RDONLY));
  EXPECT_EQ(error_of(kBase, kPage, {segment(0, 1, program.get())}), EINVAL);
  base::UniqueFd memory(::open("/proc/self/mem", O_RDWR));
  EXPECT_EQ(error_of(kBase, kPage, {segment(0, 1, memory.get())}), EINVAL);
}

TEST_F(HostWindowTest, WritableNeedsWritableObject) {
  const auto fd = object_of(1, false);
  const std::string again = "/proc/self/fd/" + std::to_string(fd.get());
  base::UniqueFd read_only(::open(again.c_str(), O_RDONLY));
  EXPECT_EQ(error_of(kBase, kPage, {segment(0, 1, read_only.get())}), EACCES);
  auto part = segment(0, 1, read_only.get());
  part.writable = false;
  auto window = open_window(kBase, kPage, {&part, 1}, nullptr);
  ASSERT_TRUE(window.ok());
  std::array<std::byte, 100> bytes{};
  EXPECT_EQ(window.value()->read(kBase, bytes), memory::AccessResult::kDone);
  EXPECT_TRUE(window.value()->needs_guard());
  EXPECT_EQ(window.value()->write(kBase, bytes), memory::AccessResult::kFailed)
      << "a store faults; the guard says so";
}

TEST_F(HostWindowTest, TruncatedObjectIsAnErrorNotTheEnd) {
  const auto fd = object_of(4, false);
  const HostSegment part = segment(0, 4, fd.get());
  auto window = open_window(kBase, 4 * kPage, {&part, 1}, nullptr);
  ASSERT_TRUE(window.ok());
  EXPECT_TRUE(window.value()->needs_guard());
  std::array<std::byte, 100> bytes{};
  EXPECT_EQ(window.value()->write(kBase + 3 * kPage, bytes), memory::AccessResult::kDone);
  ASSERT_EQ(::ftruncate(fd.get(), kPage), 0);
  EXPECT_EQ(window.value()->write(kBase + 3 * kPage, bytes), memory::AccessResult::kFailed);
  EXPECT_EQ(window.value()->read(kBase + 3 * kPage, bytes), memory::AccessResult::kFailed);
  EXPECT_EQ(window.value()->read(kBase, bytes), memory::AccessResult::kDone);
}

TEST_F(HostWindowTest, CoincidingMappingsAreSharedAndLeaveWithTheLastWindow) {
  const std::string name = "memfd:object";
  const size_t before = mappings_of(name);
  const auto fd = object_of(4, true);
  const HostSegment part = segment(0, 4, fd.get());
  auto first = open_window(kBase, 4 * kPage, {&part, 1}, nullptr);
  auto second = open_window(kBase + 100, kPage, {&part, 1}, nullptr);
  EXPECT_EQ(mappings_of(name), before + 1);
  EXPECT_EQ(first.value()->resolve(kBase + 100, 1).data,
            second.value()->resolve(kBase + 100, 1).data);
  first.value().reset();
  EXPECT_EQ(mappings_of(name), before + 1);
  second.value().reset();
  EXPECT_EQ(mappings_of(name), before);
}

TEST_F(HostWindowTest, MappingASparseObjectTouchesNothing) {
  const auto fd = object_of(64ull << 18, true);  // 64 GiB
  ASSERT_EQ(::pwrite(fd.get(), "x", 1, 1ll << 35), 1);
  const HostSegment part = segment(0, 64ull << 18, fd.get());
  auto window = open_window(kBase, 64ull << 30, {&part, 1}, nullptr);
  ASSERT_TRUE(window.ok());
  struct stat status = {};
  ASSERT_EQ(::fstat(fd.get(), &status), 0);
  EXPECT_LE(status.st_blocks, 4096) << "blocks of 512 bytes: at most one huge page";
}

}  // namespace
}  // namespace flexins::window
