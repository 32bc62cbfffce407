#include "preload/redirect.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace flexins::preload {
namespace {

constexpr const char* kRootVariable = "FLEXINS_SYSFS=";
constexpr const char* kDevice = "/sys/devices/platform/flexins.0";
constexpr const char* kNode = "/dev/null";
constexpr const char* kSysfs = "/sys";

constinit char root[kMaxRoot];
constinit std::atomic<size_t> root_length{0};
constinit std::atomic<bool> root_known{false};

/// Directories that hold our entries beside the kernel's.
constexpr const char* kMerged[] = {
    "/sys/class/infiniband",
    "/sys/class/infiniband_verbs",
    "/sys/class/misc/rdma_cm",
    "/dev/infiniband",
};

/// Reads the variable from the environment itself: some programs (bash) bring their own getenv.
/// Two threads that both come here first write the same bytes.
size_t find_root() {
  if (root_known.load(std::memory_order_acquire)) {
    return root_length.load(std::memory_order_relaxed);
  }
  if (environ == nullptr) return 0;  // earlier than the C library's start
  const size_t name_length = std::strlen(kRootVariable);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, kRootVariable, name_length) != 0) continue;
    const char* value = *entry + name_length;
    const size_t length = std::strlen(value);
    // Not shorter than what it stands for: restore_path() writes in place.
    if (value[0] != '/' || length < std::strlen(kSysfs) || length >= sizeof root) break;
    std::memcpy(root, value, length + 1);
    root_length.store(length, std::memory_order_relaxed);
    break;
  }
  root_known.store(true, std::memory_order_release);
  return root_length.load(std::memory_order_relaxed);
}

/// As early as possible: later the program may have changed its environment.
__attribute__((constructor)) void find_root_early() { find_root(); }

/// Skips "/", "//", "/./": what separates two components.
const char* skip_separator(const char* path) {
  while (path[0] == '/' || (path[0] == '.' && (path[1] == '/' || path[1] == '\0'))) ++path;
  return path;
}

/// What follows `prefix` (an absolute path in plain form) in `path`, which need not be in plain
/// form:
/// "" or a separator and more. Null: another path.
const char* after_prefix(const char* path, const char* prefix) {
  while (*prefix != '\0') {
    if (*prefix == '/') {
      if (*path != '/') return nullptr;
      path = skip_separator(path);
      ++prefix;
    } else if (*path++ != *prefix++) {
      return nullptr;
    }
  }
  return *path == '\0' || *path == '/' ? path : nullptr;
}

/// Where in the tree `directory` (one of the above) is, and `tail_length` bytes of `tail` below it,
/// into `out`. False: too long.
bool path_in_tree(char* out, const char* directory, const char* tail, size_t tail_length) {
  if (after_prefix(directory, kSysfs) != nullptr) directory += std::strlen(kSysfs);
  const size_t length = root_length.load(std::memory_order_relaxed);
  const size_t directory_length = std::strlen(directory);
  if (length + directory_length + tail_length >= kMaxPath) return false;
  std::memcpy(out, root, length);
  std::memcpy(out + length, directory, directory_length);
  std::memcpy(out + length + directory_length, tail, tail_length);
  out[length + directory_length + tail_length] = '\0';
  return true;
}

enum class Owner { kNobody, kUs, kKernel, kStandIn };

/// Whose entry is at `path` of the tree: sysfs_tree.h says how links tell. Raw system calls, since
/// the C library's readlink may be wrapped by others too.
Owner owner_of(const char* path) {
  const int saved_errno = errno;
  char target[16];  // enough to tell them apart
  const long length = ::syscall(SYS_readlinkat, AT_FDCWD, path, target, sizeof target);
  if (length < 0) {
    const bool no_link = std::exchange(errno, saved_errno) == EINVAL;
    return no_link ? Owner::kUs : Owner::kNobody;
  }
  const auto size = static_cast<size_t>(length);
  if (size == std::strlen(kNode) && std::memcmp(target, kNode, size) == 0) return Owner::kStandIn;
  return target[0] == '/' ? Owner::kKernel : Owner::kUs;
}

}  // namespace

void Redirect::look_up() {
  if (!active()) return;
  const char* rest = after_prefix(path_, kDevice);
  if (rest != nullptr) {
    if (path_in_tree(buffer_, kDevice, rest, std::strlen(rest))) path_ = buffer_;
    return;
  }
  for (const char* directory : kMerged) {
    rest = after_prefix(path_, directory);
    if (rest != nullptr) return look_up_merged(directory, rest);
  }
}

void Redirect::look_up_merged(const char* directory, const char* rest) {
  const char* const name = skip_separator(rest);
  const size_t name_length = std::strcspn(name, "/");
  if (name_length == 2 && std::memcmp(name, "..", 2) == 0) return;
  // The entry alone, without what may follow it, tells whose it is; no entry: the directory's own.
  const size_t entry_length = static_cast<size_t>(name - rest) + name_length;
  if (!path_in_tree(buffer_, directory, rest, entry_length)) return;
  if (name_length == 0) path_in_tree(buffer_, directory, "", 0);
  const Owner owner = owner_of(buffer_);
  if (owner == Owner::kStandIn && name[name_length] == '\0') {
    path_ = kNode;
    stands_for_node_ = true;
    stands_for_cm_ = std::strcmp(name, "rdma_cm") == 0;
  } else if (owner == Owner::kUs && path_in_tree(buffer_, directory, rest, std::strlen(rest))) {
    path_ = buffer_;
  }
}

bool active() { return find_root() != 0; }

bool engine_directory(char* out) {
  if (find_root() == 0) return false;
  const char* const end = std::strrchr(root, '/');
  const auto length = static_cast<size_t>(end - root);
  std::memcpy(out, root, length);
  out[length] = '\0';
  return true;
}

void restore_path(char* path) {
  const size_t length = find_root();
  if (length == 0 || std::strncmp(path, root, length) != 0) return;
  const char* rest = path + length;
  if (*rest != '/' && *rest != '\0') return;
  const char* prefix = after_prefix(rest, "/dev") != nullptr ? "" : kSysfs;
  const size_t prefix_length = std::strlen(prefix);
  std::memmove(path + prefix_length, rest, std::strlen(rest) + 1);
  std::memcpy(path, prefix, prefix_length);
}

}  // namespace flexins::preload
