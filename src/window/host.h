#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "memory/window.h"

/// The engine's half of windows: maps what the application offers, and reaches the rest through its
/// memory descriptor. Everything offered is checked.

namespace flexins::window {

/// One application's memory descriptor, checked, with the helper thread that touches it (a hostile
/// page can block a read for ever: a worker leaves such an access alone after a few milliseconds
/// and gets kLater; when it has been blocked for kStallLimit, every further access fails).
class ProcessMemory {
 public:
  virtual ~ProcessMemory() = default;
  /// `fd` must be /proc/PID/mem of process `pid` (fstat, fstatfs and readlink of our own
  /// /proc/self/fd say so). Errors: EINVAL with the reason.
  static base::Result<std::shared_ptr<ProcessMemory>> open(base::UniqueFd fd, int pid);

  [[nodiscard]] virtual memory::AccessResult read(uint64_t address,
                                                  std::span<std::byte> out) noexcept = 0;
  /// Placement order, see memory::Window::write.
  [[nodiscard]] virtual memory::AccessResult write(uint64_t address,
                                                   std::span<const std::byte> in) noexcept = 0;
  /// Waits a while for writes that were left alone: a region is about to go.
  virtual void settle() noexcept = 0;
};

struct HostSegment {
  uint64_t address = 0;
  uint64_t length = 0;
  int fd = -1;  ///< borrowed for the call
  uint64_t offset = 0;
  memory::WindowKind kind = memory::WindowKind::kShared;
  bool writable = true;
};

/// A window onto [base, base + length). `process` may be null: then what no segment covers fails.
/// Errors: EINVAL (unsorted, overlapping, outside, unaligned, beyond the object's end), EACCES,
/// ENOMEM. Maps are shared between windows of one object where they coincide.
base::Result<std::unique_ptr<memory::Window>> open_window(uint64_t base, uint64_t length,
                                                          std::span<const HostSegment> segments,
                                                          std::shared_ptr<ProcessMemory> process);

}  // namespace flexins::window
