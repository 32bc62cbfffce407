#pragma once

#include <sys/mman.h>
#include <sys/stat.h>

#include <cstddef>
#include <utility>

#include "base/unique_fd.h"

namespace flexins::provider {

/// A mapping of memory that the engine shares with us.
class SharedMemory {
 public:
  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  SharedMemory& operator=(SharedMemory&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() {
    if (base_ != nullptr) ::munmap(base_, bytes_);
  }

  /// Maps the first `bytes` of `fd`. False when it is shorter or cannot be mapped.
  [[nodiscard]] bool map(const base::UniqueFd& fd, size_t bytes) {
    struct stat info {};
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0) return false;
    if (info.st_size < 0 || static_cast<size_t>(info.st_size) < bytes) return false;
    void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (at == MAP_FAILED) return false;
    base_ = static_cast<std::byte*>(at);
    bytes_ = bytes;
    return true;
  }

  [[nodiscard]] std::byte* base() const { return base_; }

 private:
  std::byte* base_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace flexins::provider
