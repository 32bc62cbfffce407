#include "window/object_mapping.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

namespace flexins::window {
namespace {

/// Present pages are mapped at registration up to this much (1 µs a page saved later); the rest on
/// first touch.
constexpr uint64_t kPopulateBytesMax = 256ull << 20;

using Key = std::tuple<const void*, dev_t, ino_t, uint64_t, uint64_t, bool>;

struct Cache {
  std::mutex mutex;
  std::map<Key, std::weak_ptr<ObjectMapping>> mappings;
};

Cache& cache() {
  static Cache* const instance = new Cache;  // outlives every window, also at exit
  return *instance;
}

struct Object {
  dev_t device = 0;
  ino_t inode = 0;
  bool can_vanish = true;
};

base::Result<Object> inspect(const HostSegment& segment) {
  struct stat status = {};
  struct statfs system = {};
  if (::fstat(segment.fd, &status) != 0 || ::fstatfs(segment.fd, &system) != 0) {
    return base::Error{EINVAL, "a segment's descriptor is not open"};
  }
  const bool huge = system.f_type == HUGETLBFS_MAGIC;
  if (!S_ISREG(status.st_mode) || (!huge && system.f_type != TMPFS_MAGIC)) {
    return base::Error{EINVAL, "a segment's object is not memory (memfd, tmpfs or hugetlbfs)"};
  }
  const auto page =
      static_cast<uint64_t>(huge ? status.st_blksize : static_cast<blksize_t>(::getpagesize()));
  if (segment.offset % page != 0 || segment.length % page != 0) {
    return base::Error{EINVAL, "a segment is not aligned to pages of its object"};
  }
  const uint64_t size = (static_cast<uint64_t>(status.st_size) + page - 1) / page * page;
  if (segment.offset > size || segment.length > size - segment.offset) {
    return base::Error{EINVAL, "a segment reaches beyond its object's end"};
  }
  const int seals = ::fcntl(segment.fd, F_GET_SEALS);
  // A hole in a huge page object may find the pool empty, whatever its seals.
  const bool sealed = !huge && seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
  return Object{status.st_dev, status.st_ino, !sealed};
}

/// Maps pages that exist already; holes stay holes.
void populate(const HostSegment& segment, std::byte* data) {
  uint64_t budget = kPopulateBytesMax;
  const uint64_t end = segment.offset + segment.length;
  for (uint64_t at = segment.offset; at < end && budget > 0;) {
    const off_t from = ::lseek(segment.fd, static_cast<off_t>(at), SEEK_DATA);
    if (from < 0 || static_cast<uint64_t>(from) >= end) return;
    const off_t hole = ::lseek(segment.fd, from, SEEK_HOLE);
    if (hole <= from) return;
    const uint64_t to =
        std::min({static_cast<uint64_t>(hole), end, static_cast<uint64_t>(from) + budget});
    const uint64_t length = to - static_cast<uint64_t>(from);
    // Failure costs nothing but a fault later.
    (void)::madvise(data + (static_cast<uint64_t>(from) - segment.offset), length,
                    segment.writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    budget -= length;
    at = to;
  }
}

base::Error map_error(int code) {
  const std::string reason = std::strerror(code);
  if (code == EACCES || code == EPERM) {
    return base::Error{EACCES, "a segment's object does not allow the mapping: " + reason};
  }
  return base::Error{code == ENOMEM ? ENOMEM : EINVAL, "cannot map a segment: " + reason};
}

}  // namespace

base::Result<std::shared_ptr<ObjectMapping>> ObjectMapping::map(const HostSegment& segment,
                                                                const void* owner) {
  auto object = inspect(segment);
  if (!object.ok()) return object.error();
  const Key key{owner,          object->device, object->inode,
                segment.offset, segment.length, segment.writable};
  Cache& shared = cache();
  const std::lock_guard lock(shared.mutex);
  std::erase_if(shared.mappings, [](const auto& entry) { return entry.second.expired(); });
  if (const auto found = shared.mappings.find(key); found != shared.mappings.end()) {
    if (auto mapping = found->second.lock()) return mapping;
  }
  void* data = ::mmap(nullptr, segment.length, PROT_READ | (segment.writable ? PROT_WRITE : 0),
                      MAP_SHARED, segment.fd, static_cast<off_t>(segment.offset));
  if (data == MAP_FAILED) return map_error(errno);
  (void)::madvise(data, segment.length, MADV_DONTDUMP);
  (void)::madvise(data, segment.length, MADV_HUGEPAGE);
  populate(segment, static_cast<std::byte*>(data));
  std::shared_ptr<ObjectMapping> mapping(
      new ObjectMapping(static_cast<std::byte*>(data), segment.length, object->can_vanish));
  shared.mappings.insert_or_assign(key, mapping);
  return mapping;
}

ObjectMapping::~ObjectMapping() { ::munmap(data_, length_); }

}  // namespace flexins::window
