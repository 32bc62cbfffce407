#include "memory/plain_windows.h"

#include <algorithm>
#include <cstring>

namespace flexins::memory {

Extent NullWindow::resolve(uint64_t, uint64_t length) noexcept { return {nullptr, length}; }

AccessResult NullWindow::read(uint64_t, std::span<std::byte> out) noexcept {
  std::fill(out.begin(), out.end(), std::byte{0});
  return AccessResult::kDone;
}

AccessResult NullWindow::write(uint64_t, std::span<const std::byte>) noexcept {
  return AccessResult::kDone;
}

Extent OwnWindow::resolve(uint64_t address, uint64_t length) noexcept {
  if (!holds(address, length)) return {nullptr, length};
  return {bytes_.data() + address, length};
}

AccessResult OwnWindow::read(uint64_t address, std::span<std::byte> out) noexcept {
  if (!holds(address, out.size())) return AccessResult::kFailed;
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + address, out.size());
  return AccessResult::kDone;
}

AccessResult OwnWindow::write(uint64_t address, std::span<const std::byte> in) noexcept {
  if (!holds(address, in.size())) return AccessResult::kFailed;
  copy_tail_last(bytes_.data() + address, in.data(), in.size());
  return AccessResult::kDone;
}

}  // namespace flexins::memory
