#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"

namespace flexins::port {

/// A file that one thread appends to without ever waiting for the disk: bytes go through a bounded
/// ring to a writer thread.
class CaptureFile {
 public:
  /// Creates `path` (mode 0600: payload is not for everybody) or empties it. Errors name it.
  static base::Result<std::unique_ptr<CaptureFile>> create(const std::string& path);
  /// As finish().
  ~CaptureFile();
  CaptureFile(const CaptureFile&) = delete;
  CaptureFile& operator=(const CaptureFile&) = delete;

  /// Appends all of `bytes` or, where the writer is too far behind, nothing (false). From one
  /// thread.
  [[nodiscard]] bool append(std::span<const std::byte> bytes) noexcept;
  /// Writes what is left; nothing may be appended afterwards. Returns error().
  int finish() noexcept;
  /// The first error of a write, an errno value; 0 while there was none. After it append() fails.
  [[nodiscard]] int error() const noexcept { return error_.load(std::memory_order_acquire); }

 private:
  static constexpr size_t kRingBytes = 8 << 20;

  explicit CaptureFile(base::UniqueFd fd);
  void run() noexcept;
  /// Writes what the ring holds; returns whether it held anything.
  bool drain() noexcept;

  base::UniqueFd fd_;
  std::unique_ptr<std::byte[]> ring_;
  alignas(64) std::atomic<uint64_t> appended_{0};
  alignas(64) std::atomic<uint64_t> written_{0};
  std::atomic<int> error_{0};
  std::atomic<bool> stopping_{false};
  std::thread writer_;
};

}  // namespace flexins::port
