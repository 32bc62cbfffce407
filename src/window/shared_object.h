#pragma once

#include <cstdint>
#include <optional>

#include "base/unique_fd.h"
#include "window/maps.h"

namespace flexins::window {

/// The memory object behind a shared mapping of this process.
struct SharedObject {
  base::UniqueFd fd;        ///< our own
  uint64_t page_bytes = 0;  ///< what offsets and lengths of a mapping must be multiples of
  uint64_t size_bytes = 0;  ///< whole pages
  bool writable = false;
};

/// Looks among the process's open descriptors, then (where permitted) in /proc/self/map_files.
/// Nothing for objects that are not memory: their pages can block who touches them.
std::optional<SharedObject> find_shared_object(const Mapping& mapping);

}  // namespace flexins::window
