#include "memory/region.h"

namespace flexins::memory {

AccessResult gather(Region& region, uint64_t address, uint32_t length, std::span<iovec> pieces,
                    size_t& used, std::span<std::byte>& staging, uint64_t& staged_bytes) noexcept {
  uint64_t at = region.window_address(address);
  used = 0;
  for (uint64_t left = length; left > 0;) {
    const Extent extent = region.window->resolve(at, left);
    std::byte* data = extent.data;
    if (data == nullptr) {
      if (extent.length > staging.size()) return AccessResult::kFailed;
      data = staging.data();
      const AccessResult read = region.window->read(at, staging.first(extent.length));
      if (read != AccessResult::kDone) return read;
      staging = staging.subspan(extent.length);
      staged_bytes += extent.length;
    }
    iovec* last = used > 0 ? &pieces[used - 1] : nullptr;
    if (last != nullptr && static_cast<std::byte*>(last->iov_base) + last->iov_len == data) {
      last->iov_len += extent.length;
    } else {
      if (used == pieces.size()) return AccessResult::kFailed;
      pieces[used++] = iovec{data, extent.length};
    }
    at += extent.length;
    left -= extent.length;
  }
  return AccessResult::kDone;
}

}  // namespace flexins::memory
