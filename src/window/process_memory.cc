#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "window/host.h"
#include "window/memory_helper.h"

namespace flexins::window {
namespace {

/// What our own /proc/self/fd says the descriptor is; empty when it cannot be told.
std::string name_of(int fd) {
  char target[64];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = ::readlink(link.c_str(), target, sizeof target);
  if (length <= 0 || length == static_cast<ssize_t>(sizeof target)) return {};
  return {target, static_cast<size_t>(length)};
}

class HelperMemory final : public ProcessMemory {
 public:
  explicit HelperMemory(std::unique_ptr<MemoryHelper> helper) : helper_(std::move(helper)) {}

  memory::AccessResult read(uint64_t address, std::span<std::byte> out) noexcept override {
    return helper_->read(address, out);
  }
  memory::AccessResult write(uint64_t address, std::span<const std::byte> in) noexcept override {
    return helper_->write(address, in);
  }
  void settle() noexcept override { helper_->settle(); }

 private:
  std::unique_ptr<MemoryHelper> helper_;
};

}  // namespace

base::Result<std::shared_ptr<ProcessMemory>> ProcessMemory::open(base::UniqueFd fd, int pid) {
  struct statfs system = {};
  if (!fd.valid() || ::fstatfs(fd.get(), &system) != 0) {
    return base::Error{EINVAL, "the memory descriptor is not open"};
  }
  if (system.f_type != PROC_SUPER_MAGIC) {
    return base::Error{EINVAL, "the memory descriptor is not a procfs file"};
  }
  const std::string expected = "/proc/" + std::to_string(pid) + "/mem";
  const std::string actual = name_of(fd.get());
  if (actual != expected) {
    return base::Error{EINVAL, "the memory descriptor is '" + actual + "', not " + expected};
  }
  if ((::fcntl(fd.get(), F_GETFL) & O_ACCMODE) != O_RDWR) {
    return base::Error{EINVAL, "the memory descriptor is not open for reading and writing"};
  }
  auto helper = MemoryHelper::start(std::move(fd));
  if (!helper.ok()) return helper.error();
  return std::shared_ptr<ProcessMemory>(std::make_shared<HelperMemory>(std::move(helper).value()));
}

}  // namespace flexins::window
