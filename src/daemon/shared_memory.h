#pragma once

#include <cstddef>

#include "base/result.h"
#include "base/unique_fd.h"

namespace flexins::daemon {

/// Zeroed memory that an application gets a descriptor of. Sealed against resizing, so that the
/// application cannot make our loads fault.
class SharedMemory {
 public:
  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory() { unmap(); }

  /// `bytes` are rounded up to whole pages. Errors: ENOMEM.
  static base::Result<SharedMemory> create(const char* name, size_t bytes);

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  /// The descriptor, to be sent away; the mapping stays.
  [[nodiscard]] base::UniqueFd take_fd() { return std::move(fd_); }

 private:
  void unmap() noexcept;

  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  base::UniqueFd fd_;
};

}  // namespace flexins::daemon
