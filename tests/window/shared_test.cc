#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <string>

#include "base/fault_guard.h"
#include "test_memory.h"
#include "window/local_client.h"

namespace flexins::window {
namespace {

using memory::WindowKind;

class SharedTest : public testing::Test {
 protected:
  void SetUp() override { base::install_fault_guard(); }

  std::byte* map(int fd, uint64_t bytes, int flags = MAP_SHARED, uint64_t offset = 0,
                 int protection = PROT_READ | PROT_WRITE) {
    void* data = ::mmap(nullptr, bytes, protection, flags, fd, static_cast<off_t>(offset));
    EXPECT_NE(data, MAP_FAILED);
    return static_cast<std::byte*>(data);
  }
  static base::UniqueFd tmpfs_file(uint64_t bytes) {
    char name[] = "/dev/shm/flexins-test-XXXXXX";
    base::UniqueFd fd(::mkstemp(name));
    ::unlink(name);
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
    return fd;
  }
  Preparation prepare(const std::byte* data, uint64_t length, bool need_write = true) {
    auto prepared = client_.prepare(address_of(data), length, need_write, false);
    EXPECT_TRUE(prepared.ok()) << (prepared.ok() ? "" : prepared.error().message);
    return prepared.ok() ? prepared.value() : Preparation{};
  }
  LocalClient client_{ClientSettings{}};
};

TEST_F(SharedTest, TmpfsFileIsMappedByBoth) {
  const auto fd = tmpfs_file(8 * kPage);
  std::byte* data = map(fd.get(), 6 * kPage, MAP_SHARED, 2 * kPage);
  const auto preparation = prepare(data + 100, 5 * kPage);
  ASSERT_EQ(preparation.segments.size(), 1u);
  const ClientSegment& segment = preparation.segments[0];
  EXPECT_EQ(segment.kind, WindowKind::kShared);
  EXPECT_EQ(segment.address, address_of(data)) << "partial pages of a shared object count too";
  EXPECT_EQ(segment.length, 6 * kPage);
  EXPECT_EQ(segment.offset, 2 * kPage);
  auto window = open_of(preparation, address_of(data) + 100, 5 * kPage);
  ASSERT_NE(window, nullptr);
  EXPECT_EQ(window->kind(), WindowKind::kShared);
  EXPECT_TRUE(window->needs_guard());
  const auto extent = window->resolve(address_of(data) + 100, 5 * kPage);
  ASSERT_EQ(extent.length, 5 * kPage);
  fill(extent.data, extent.length, 4);
  EXPECT_TRUE(is_filled(data + 100, extent.length, 4));
  // The file is cut while it is registered.
  ASSERT_EQ(::ftruncate(fd.get(), 3 * kPage), 0);
  std::array<std::byte, 64> bytes{};
  EXPECT_EQ(window->write(address_of(data) + 3 * kPage, bytes), memory::AccessResult::kFailed);
  EXPECT_EQ(window->write(address_of(data) + 200, bytes), memory::AccessResult::kDone);
  client_.release(preparation.ticket);
  ::munmap(data, 6 * kPage);
}

TEST_F(SharedTest, TheProgramMayCloseItsDescriptorLater) {
  auto fd = tmpfs_file(4 * kPage);
  std::byte* data = map(fd.get(), 4 * kPage);
  const auto preparation = prepare(data, 4 * kPage);
  fd.reset();
  auto window = open_of(preparation, address_of(data), 4 * kPage);
  ASSERT_NE(window, nullptr);
  *window->resolve(address_of(data), 1).data = std::byte{3};
  EXPECT_EQ(data[0], std::byte{3});
  client_.release(preparation.ticket);
  ::munmap(data, 4 * kPage);
}

TEST_F(SharedTest, SealedMemfdNeedsNoGuard) {
  base::UniqueFd fd(::memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(fd.get(), 4 * kPage), 0);
  ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  std::byte* data = map(fd.get(), 4 * kPage);
  const auto preparation = prepare(data, 4 * kPage);
  auto window = open_of(preparation, address_of(data), 4 * kPage);
  ASSERT_NE(window, nullptr);
  EXPECT_FALSE(window->needs_guard());
  EXPECT_EQ(window->kind(), WindowKind::kShared);
  client_.release(preparation.ticket);
  ::munmap(data, 4 * kPage);
}

TEST_F(SharedTest, ReadOnlyDescriptorServesReadsOnly) {
  const auto fd = tmpfs_file(2 * kPage);
  std::byte* data = map(fd.get(), 2 * kPage, MAP_SHARED, 0, PROT_READ);
  EXPECT_EQ(client_.prepare(address_of(data), kPage, true, false).error().code, EFAULT);
  const auto preparation = prepare(data, 2 * kPage, false);
  ASSERT_EQ(preparation.segments.size(), 1u);
  EXPECT_FALSE(preparation.segments[0].writable);
  auto window = open_of(preparation, address_of(data), 2 * kPage);
  std::array<std::byte, 8> bytes{};
  EXPECT_EQ(window->read(address_of(data), bytes), memory::AccessResult::kDone);
  EXPECT_EQ(window->write(address_of(data), bytes), memory::AccessResult::kFailed);
  client_.release(preparation.ticket);
  ::munmap(data, 2 * kPage);
}

TEST_F(SharedTest, PagesBeyondTheFilesEndAreNotOffered) {
  const auto fd = tmpfs_file(2 * kPage + 10);
  std::byte* data = map(fd.get(), 6 * kPage);
  const auto preparation = prepare(data, 6 * kPage);
  ASSERT_EQ(preparation.segments.size(), 1u);
  EXPECT_EQ(preparation.segments[0].length, 3 * kPage);
  EXPECT_NE(open_of(preparation, address_of(data), 6 * kPage), nullptr);
  client_.release(preparation.ticket);
  ::munmap(data, 6 * kPage);
}

TEST_F(SharedTest, PrivateFileMappingsGoByDescriptor) {
  const auto fd = tmpfs_file(4 * kPage);
  std::byte* data = map(fd.get(), 4 * kPage, MAP_PRIVATE);
  const auto preparation = prepare(data, 4 * kPage);
  EXPECT_TRUE(preparation.segments.empty());
  auto process =
      ProcessMemory::open(base::UniqueFd(::dup(client_.memory_descriptor())), ::getpid());
  ASSERT_TRUE(process.ok());
  auto window = open_of(preparation, address_of(data), 4 * kPage, process.value());
  const std::array<std::byte, 3> bytes{std::byte{1}, std::byte{2}, std::byte{3}};
  EXPECT_EQ(window->write(address_of(data) + kPage - 1, bytes), memory::AccessResult::kDone);
  EXPECT_EQ(std::memcmp(data + kPage - 1, bytes.data(), bytes.size()), 0);
  char unchanged = 'x';
  EXPECT_EQ(::pread(fd.get(), &unchanged, 1, kPage), 1);
  EXPECT_EQ(unchanged, 0);
  client_.release(preparation.ticket);
  ::munmap(data, 4 * kPage);
}

TEST_F(SharedTest, FilesOnDisksGoByDescriptor) {
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  struct statfs system = {};
  ASSERT_EQ(::fstatfs(::fileno(file), &system), 0);
  ASSERT_EQ(::ftruncate(::fileno(file), kPage), 0);
  std::byte* data = map(::fileno(file), kPage);
  const auto preparation = prepare(data, kPage);
  EXPECT_EQ(preparation.segments.empty(), system.f_type != TMPFS_MAGIC);
  client_.release(preparation.ticket);
  ::munmap(data, kPage);
  std::fclose(file);
}

TEST_F(SharedTest, HugePages) {
  constexpr uint64_t kHuge = 2 << 20;
  base::UniqueFd fd(::memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB));
  if (!fd.valid() || ::ftruncate(fd.get(), 2 * kHuge) != 0) GTEST_SKIP() << "no huge pages";
  void* mapped = ::mmap(nullptr, 2 * kHuge, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) GTEST_SKIP() << "no huge pages reserved";
  auto* data = static_cast<std::byte*>(mapped);
  const auto preparation = prepare(data + kPage, kHuge);
  ASSERT_EQ(preparation.segments.size(), 1u);
  EXPECT_EQ(preparation.segments[0].length, 2 * kHuge);
  auto window = open_of(preparation, address_of(data) + kPage, kHuge);
  ASSERT_NE(window, nullptr);
  *window->resolve(address_of(data) + kPage, 1).data = std::byte{6};
  EXPECT_EQ(data[kPage], std::byte{6});
  client_.release(preparation.ticket);
  ::munmap(mapped, 2 * kHuge);
}

TEST_F(SharedTest, OneRangeOfSeveralKinds) {
  const Pages pages(6);
  const auto fd = tmpfs_file(2 * kPage);
  ASSERT_NE(::mmap(pages.data() + 2 * kPage, 2 * kPage, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_FIXED, fd.get(), 0),
            MAP_FAILED);
  fill(pages.data(), pages.bytes(), 8);
  const auto preparation = prepare(pages.data() + 1, 6 * kPage - 1);
  auto process =
      ProcessMemory::open(base::UniqueFd(::dup(client_.memory_descriptor())), ::getpid());
  auto window = open_of(preparation, pages.address() + 1, 6 * kPage - 1, process.value());
  ASSERT_NE(window, nullptr);
  std::vector<std::byte> bytes(6 * kPage - 1);
  ASSERT_EQ(window->read(pages.address() + 1, bytes), memory::AccessResult::kDone);
  EXPECT_EQ(std::memcmp(bytes.data(), pages.data() + 1, bytes.size()), 0);
  for (auto& byte : bytes) byte ^= std::byte{0xff};
  ASSERT_EQ(window->write(pages.address() + 1, bytes), memory::AccessResult::kDone);
  EXPECT_EQ(std::memcmp(bytes.data(), pages.data() + 1, bytes.size()), 0);
  window.reset();
  client_.release(preparation.ticket);
  EXPECT_EQ(std::memcmp(bytes.data(), pages.data() + 1, bytes.size()), 0);
}

}  // namespace
}  // namespace flexins::window
