#include "common/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/peer.h"

namespace example {
namespace {

std::byte* allocate(Source source, size_t bytes) {
  void* memory = nullptr;
  if (source == Source::kMalloc) {
    memory = malloc(bytes);
  } else if (source == Source::kAnonymousMapping) {
    memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  } else {
    const int fd = memfd_create("example", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
      fail("memfd: %s", strerror(errno));
    }
    memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    // Left open until the program ends: by the descriptor others can be given the same object.
  }
  if (memory == nullptr || memory == MAP_FAILED) fail("no memory: %s", strerror(errno));
  memset(memory, 0, bytes);
  return static_cast<std::byte*>(memory);
}

}  // namespace

std::string_view to_string(Source source) {
  switch (source) {
    case Source::kMalloc: return "malloc";
    case Source::kAnonymousMapping: return "anonymous";
    case Source::kSharedObject: return "shared";
  }
  return "?";
}

Memory::Memory(Source source, size_t bytes)
    : source_(source), bytes_(bytes), data_(allocate(source, bytes)) {}

Memory::Memory(Memory&& other) noexcept
    : source_(other.source_), bytes_(other.bytes_), data_(std::exchange(other.data_, nullptr)) {}

Memory::~Memory() {
  if (data_ == nullptr) return;
  if (source_ == Source::kMalloc) {
    free(data_);
  } else {
    munmap(data_, bytes_);
  }
}

}  // namespace example
