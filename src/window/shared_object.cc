#include "window/shared_object.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace flexins::window {
namespace {

bool is_object(int fd, const Mapping& mapping) {
  struct stat status = {};
  return ::fstat(fd, &status) == 0 && status.st_ino == mapping.inode &&
         status.st_dev == mapping.device && S_ISREG(status.st_mode);
}

bool is_writable(int fd) { return (::fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR; }

/// A descriptor of ours for the object; a writable one if there is any.
base::UniqueFd search_descriptors(const Mapping& mapping) {
  base::UniqueFd best;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/fd"), ::closedir);
  if (folder == nullptr) return best;
  while (const dirent* entry = ::readdir(folder.get())) {
    char* end = nullptr;
    const long fd = std::strtol(entry->d_name, &end, 10);
    if (end == entry->d_name || !is_object(static_cast<int>(fd), mapping)) continue;
    const bool writable = is_writable(static_cast<int>(fd));
    if (!best.valid() || writable) {
      best.reset(::fcntl(static_cast<int>(fd), F_DUPFD_CLOEXEC, 3));
    }
    if (writable) break;
  }
  return best;
}

base::UniqueFd open_map_file(const Mapping& mapping) {
  char path[80];
  std::snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx",
                static_cast<unsigned long>(mapping.begin), static_cast<unsigned long>(mapping.end));
  return base::UniqueFd(::open(path, (mapping.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
}

}  // namespace

std::optional<SharedObject> find_shared_object(const Mapping& mapping) {
  if (!mapping.shared || mapping.inode == 0) return std::nullopt;
  SharedObject object;
  object.fd = search_descriptors(mapping);
  if (!object.fd.valid()) object.fd = open_map_file(mapping);
  struct stat status = {};
  struct statfs system = {};
  if (!object.fd.valid() || !is_object(object.fd.get(), mapping) ||
      ::fstat(object.fd.get(), &status) != 0 || ::fstatfs(object.fd.get(), &system) != 0) {
    return std::nullopt;
  }
  const bool huge = system.f_type == HUGETLBFS_MAGIC;
  if (!huge && system.f_type != TMPFS_MAGIC) return std::nullopt;
  object.page_bytes =
      static_cast<uint64_t>(huge ? status.st_blksize : static_cast<blksize_t>(::getpagesize()));
  const auto size = static_cast<uint64_t>(status.st_size);
  object.size_bytes = (size + object.page_bytes - 1) / object.page_bytes * object.page_bytes;
  object.writable = is_writable(object.fd.get());
  return object;
}

}  // namespace flexins::window
