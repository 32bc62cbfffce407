#pragma once

#include "window/host.h"

namespace flexins::daemon {

/// The window room as sessions use it. An interface, so that sessions are tested without the
/// memory of another process.
class Windows {
 public:
  virtual ~Windows() = default;
  /// See window::ProcessMemory::open.
  virtual base::Result<std::shared_ptr<window::ProcessMemory>> open_process(base::UniqueFd fd,
                                                                            int pid) = 0;
  /// See window::open_window.
  virtual base::Result<std::unique_ptr<memory::Window>> open(
      uint64_t base, uint64_t length, std::span<const window::HostSegment> segments,
      std::shared_ptr<window::ProcessMemory> process) = 0;
};

/// The real ones.
class HostWindows final : public Windows {
 public:
  base::Result<std::shared_ptr<window::ProcessMemory>> open_process(base::UniqueFd fd,
                                                                    int pid) override;
  base::Result<std::unique_ptr<memory::Window>> open(
      uint64_t base, uint64_t length, std::span<const window::HostSegment> segments,
      std::shared_ptr<window::ProcessMemory> process) override;
};

}  // namespace flexins::daemon
