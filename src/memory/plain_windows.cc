#include "memory/plain_windows.h"

#include <algorithm>
#include <cstring>

namespace flexins::memory {

Extent NullWindow::resolve(uint64_t, uint64_t length) noexcept { return {nullptr, length}; }

bool NullWindow::read(uint64_t, std::span<std::byte> out) noexcept {
  std::fill(out.begin(), out.end(), std::byte{0});
  return true;
}

bool NullWindow::write(uint64_t, std::span<const std::byte>) noexcept { return true; }

Extent OwnWindow::resolve(uint64_t address, uint64_t length) noexcept {
  if (!holds(address, length)) return {nullptr, length};
  return {bytes_.data() + address, length};
}

bool OwnWindow::read(uint64_t address, std::span<std::byte> out) noexcept {
  if (!holds(address, out.size())) return false;
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + address, out.size());
  return true;
}

bool OwnWindow::write(uint64_t address, std::span<const std::byte> in) noexcept {
  if (!holds(address, in.size())) return false;
  copy_tail_last(bytes_.data() + address, in.data(), in.size());
  return true;
}

}  // namespace flexins::memory
