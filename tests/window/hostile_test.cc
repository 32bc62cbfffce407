#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sched.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "child.h"
#include "test_memory.h"
#include "window/memory_helper.h"

namespace flexins::window {
namespace {

/// A file system of one file, whose pages never come.
class StuckFileSystem {
 public:
  /// False where it cannot be mounted. The caller's mounts are its own already.
  bool mount(const char* where) {
    device_ = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
    const std::string options = "fd=" + std::to_string(device_) +
                                ",rootmode=100644,user_id=" + std::to_string(::getuid()) +
                                ",group_id=" + std::to_string(::getgid());
    return device_ >= 0 &&
           ::mount("stuck", where, "fuse", MS_NOSUID | MS_NODEV, options.c_str()) == 0;
  }
  /// Answers requests until a page is asked for; then says so on `report` and answers no more until
  /// something comes from `until`.
  void serve(int until, int report) const {
    std::array<char, 70'000> request;
    for (;;) {
      if (::read(device_, request.data(), request.size()) <
          static_cast<ssize_t>(sizeof(fuse_in_header))) {
        return;
      }
      fuse_in_header header;
      std::memcpy(&header, request.data(), sizeof header);
      if (header.opcode == FUSE_READ) {
        const char token = 'p';
        char end = 0;
        (void)!::write(report, &token, 1);
        (void)!::read(until, &end, 1);
        return;
      }
      answer(header, request.data() + sizeof header);
    }
  }

  void close() const { ::close(device_); }

 private:
  void answer(const fuse_in_header& header, const char* argument) const {
    if (header.opcode == FUSE_INIT) {
      fuse_init_in in;
      std::memcpy(&in, argument, sizeof in);
      fuse_init_out out = {};
      out.major = FUSE_KERNEL_VERSION;
      out.minor = in.minor < FUSE_KERNEL_MINOR_VERSION ? in.minor : FUSE_KERNEL_MINOR_VERSION;
      out.max_write = 4096;
      reply(header, &out, sizeof out);
    } else if (header.opcode == FUSE_GETATTR) {
      fuse_attr_out out = {};
      out.attr.ino = FUSE_ROOT_ID;
      out.attr.mode = S_IFREG | 0644;
      out.attr.nlink = 1;
      out.attr.size = 4096;
      out.attr.uid = ::getuid();
      out.attr.gid = ::getgid();
      reply(header, &out, sizeof out);
    } else if (header.opcode == FUSE_OPEN) {
      const fuse_open_out out = {};
      reply(header, &out, sizeof out);
    } else {
      reply(header, nullptr, 0, -ENOSYS);
    }
  }
  void reply(const fuse_in_header& header, const void* body, size_t length, int error = 0) const {
    std::array<char, 512> message;
    const fuse_out_header out = {static_cast<uint32_t>(sizeof out + length), error, header.unique};
    std::memcpy(message.data(), &out, sizeof out);
    if (length > 0) std::memcpy(message.data() + sizeof out, body, length);
    (void)!::write(device_, message.data(), sizeof out + length);
  }
  int device_ = -1;
};

std::byte* const kStuckPage = reinterpret_cast<std::byte*>(0x6000'0000'0000);

/// The program: serves the file in a child of its own and maps it. Reports 'm' when mapped.
int be_hostile(const char* file, int in, int out) {
  if (::unshare(CLONE_NEWNS | (::getuid() == 0 ? 0 : CLONE_NEWUSER)) != 0) return 77;
  ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  StuckFileSystem system;
  if (!system.mount(file)) return 77;
  if (::fork() == 0) {
    system.serve(in, out);
    return 0;
  }
  system.close();
  const int fd = ::open(file, O_RDONLY);
  struct stat status = {};
  ::fstat(fd, &status);  // makes the kernel ask for the size
  void* page = ::mmap(kStuckPage, 2 * kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (fd < 0 || page != kStuckPage ||
      ::mmap(kStuckPage, kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) != kStuckPage) {
    return 1;
  }
  char token = 'm';
  (void)!::write(out, &token, 1);
  (void)!::read(in, &token, 1);
  return 0;
}

using memory::AccessResult;

TEST(HostilePage, IsLeftAloneThenGivenUpAndHarmsNobodyElse) {
  char file[] = "/tmp/flexins-stuck-XXXXXX";
  ::close(::mkstemp(file));
  Child child([&](int in, int out) { return be_hostile(file, in, out); });
  const int mapped = child.receive();
  ::unlink(file);
  if (mapped != 'm') {
    const int status = child.wait();
    if (status == 77) GTEST_SKIP() << "FUSE cannot be mounted here";
    FAIL() << "status " << status;
  }
  const std::string path = "/proc/" + std::to_string(child.pid()) + "/mem";
  auto theirs = ProcessMemory::open(base::UniqueFd(::open(path.c_str(), O_RDWR)), child.pid());
  auto ours = ProcessMemory::open(base::UniqueFd(::open("/proc/self/mem", O_RDWR)), ::getpid());
  ASSERT_TRUE(theirs.ok());
  ASSERT_TRUE(ours.ok());
  std::array<std::byte, 64> bytes{};
  const uint64_t stuck = address_of(kStuckPage);
  const uint64_t beside = address_of(kStuckPage + kPage);
  ASSERT_EQ(theirs.value()->read(beside, bytes), AccessResult::kDone);
  EXPECT_EQ(theirs.value()->read(stuck, bytes), AccessResult::kLater) << "and it came back";
  EXPECT_EQ(child.receive(), 'p') << "the page was really asked for";
  EXPECT_EQ(theirs.value()->read(beside, bytes), AccessResult::kLater);
  EXPECT_EQ(theirs.value()->write(beside, bytes), AccessResult::kLater);
  theirs.value()->settle();
  std::array<std::byte, 64> target{};
  bytes.fill(std::byte{5});
  EXPECT_EQ(ours.value()->write(address_of(target.data()), bytes), AccessResult::kDone);
  EXPECT_EQ(target, bytes);
  // Whoever asks again and again is told in the end that nothing will come of it.
  AccessResult result = AccessResult::kLater;
  while (result == AccessResult::kLater) {
    ::usleep(100'000);
    result = theirs.value()->read(beside, bytes);
  }
  EXPECT_EQ(result, AccessResult::kFailed);
  theirs.value().reset();  // its helper is still blocked
  child.send('e');         // one for the program, one for its file system
  child.send('e');
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace flexins::window
