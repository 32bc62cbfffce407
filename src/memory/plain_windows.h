#pragma once

#include <memory>
#include <span>

#include "memory/window.h"

/// Windows onto no application's memory.

namespace flexins::memory {

/// Reads as zeroes at every address and forgets what is written: the null memory region, for the
/// parts of a scatter or gather list that a program wants skipped.
class NullWindow final : public Window {
 public:
  [[nodiscard]] Extent resolve(uint64_t address, uint64_t length) noexcept override;
  [[nodiscard]] AccessResult read(uint64_t address, std::span<std::byte> out) noexcept override;
  [[nodiscard]] AccessResult write(uint64_t address,
                                   std::span<const std::byte> in) noexcept override;
  [[nodiscard]] WindowKind kind() const noexcept override { return WindowKind::kDirect; }
  [[nodiscard]] bool needs_guard() const noexcept override { return false; }
};

/// Memory of the engine itself: device memory. Window addresses are offsets into it.
class OwnWindow final : public Window {
 public:
  /// `owner` keeps `bytes` alive.
  OwnWindow(std::span<std::byte> bytes, std::shared_ptr<void> owner)
      : bytes_(bytes), owner_(std::move(owner)) {}

  [[nodiscard]] Extent resolve(uint64_t address, uint64_t length) noexcept override;
  [[nodiscard]] AccessResult read(uint64_t address, std::span<std::byte> out) noexcept override;
  [[nodiscard]] AccessResult write(uint64_t address,
                                   std::span<const std::byte> in) noexcept override;
  [[nodiscard]] WindowKind kind() const noexcept override { return WindowKind::kDirect; }
  [[nodiscard]] bool needs_guard() const noexcept override { return false; }

 private:
  [[nodiscard]] bool holds(uint64_t address, uint64_t length) const noexcept {
    return address <= bytes_.size() && length <= bytes_.size() - address;
  }

  std::span<std::byte> bytes_;
  std::shared_ptr<void> owner_;
};

}  // namespace flexins::memory
