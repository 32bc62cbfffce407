#include "daemon/windows.h"

#include <utility>

namespace flexins::daemon {

base::Result<std::shared_ptr<window::ProcessMemory>> HostWindows::open_process(base::UniqueFd fd,
                                                                               int pid) {
  return window::ProcessMemory::open(std::move(fd), pid);
}

base::Result<std::unique_ptr<memory::Window>> HostWindows::open(
    uint64_t base, uint64_t length, std::span<const window::HostSegment> segments,
    std::shared_ptr<window::ProcessMemory> process) {
  return window::open_window(base, length, segments, std::move(process));
}

}  // namespace flexins::daemon
