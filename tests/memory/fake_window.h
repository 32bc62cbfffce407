#pragma once

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "memory/window.h"

namespace flexins::memory {

/// Application memory [base, base + bytes.size()) in a vector; ranges can be made "not mapped" or
/// unreachable.
class FakeWindow final : public Window {
 public:
  FakeWindow(uint64_t base, size_t length) : bytes(length), base_(base) {}

  Extent resolve(uint64_t address, uint64_t length) noexcept override {
    const uint64_t at = address - base_;
    uint64_t run = 1;
    while (run < length && unmapped(at + run) == unmapped(at) && (at + run) % extent_cut != 0)
      ++run;
    return {unmapped(at) ? nullptr : bytes.data() + at, run};
  }
  AccessResult read(uint64_t address, std::span<std::byte> out) noexcept override {
    ++reads;
    if (dead) return AccessResult::kFailed;
    std::memcpy(out.data(), bytes.data() + (address - base_), out.size());
    return AccessResult::kDone;
  }
  AccessResult write(uint64_t address, std::span<const std::byte> in) noexcept override {
    writes.emplace_back(address, in.size());
    if (dead) return AccessResult::kFailed;
    copy_tail_last(bytes.data() + (address - base_), in.data(), in.size());
    return AccessResult::kDone;
  }
  WindowKind kind() const noexcept override { return WindowKind::kDirect; }
  bool needs_guard() const noexcept override { return guard; }

  std::vector<std::byte> bytes;
  uint64_t unmapped_from = UINT64_MAX;  ///< offsets from base
  uint64_t unmapped_to = 0;
  uint64_t extent_cut = UINT64_MAX;  ///< no extent crosses a multiple of it
  bool dead = false;
  bool guard = false;
  int reads = 0;
  std::vector<std::pair<uint64_t, size_t>> writes;

 private:
  [[nodiscard]] bool unmapped(uint64_t at) const { return at >= unmapped_from && at < unmapped_to; }
  uint64_t base_;
};

}  // namespace flexins::memory
