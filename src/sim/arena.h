#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "memory/window.h"
#include "sim/random.h"

namespace flexins::sim {

/// Told of bytes that the engine places through a window, before they are there.
class PlacementObserver {
 public:
  virtual ~PlacementObserver() = default;
  virtual void on_placement() noexcept = 0;
};

/// An application's memory at addresses that are the same in every run. What nobody holds is full
/// of poison, and stays so unless somebody writes where he must not.
///
/// The first part never changes: bytes to send, different at every place. The rest is given out in
/// pieces with guard bytes between them.
class Arena {
 public:
  static constexpr std::byte kPoison{0xd6};
  static constexpr uint64_t kGuardBytes = 64;

  Arena(uint64_t base, uint64_t constant_bytes, uint64_t bytes, Random random);

  [[nodiscard]] uint64_t base() const { return base_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  [[nodiscard]] uint64_t constant_bytes() const { return constant_bytes_; }
  [[nodiscard]] std::byte* at(uint64_t address) const { return memory_.get() + (address - base_); }
  [[nodiscard]] bool holds(uint64_t address, uint64_t length) const {
    return address >= base_ && length <= bytes_ && address - base_ <= bytes_ - length;
  }

  /// An address for `length` bytes; none when there is no room. What is not poison there stains the
  /// arena: somebody has written to what he no longer held.
  [[nodiscard]] std::optional<uint64_t> allocate(uint64_t length);
  /// What was written there is poison again. False when a guard byte beside it has changed.
  [[nodiscard]] bool free(uint64_t address);
  /// Pieces that are held.
  [[nodiscard]] size_t held() const { return held_.size(); }
  [[nodiscard]] bool is_poison(uint64_t address, uint64_t length) const;
  void poison(uint64_t address, uint64_t length);

  /// The application is gone; all that could change is poison, and nobody may change that.
  void bury();
  [[nodiscard]] bool buried() const { return buried_; }
  [[nodiscard]] bool stained() const { return stained_; }
  /// Whether all that nobody holds is poison, and what never changes has not changed.
  [[nodiscard]] bool untouched() const;

 private:
  [[nodiscard]] uint64_t digest() const;
  struct Free {
    void operator()(std::byte* memory) const;
  };
  uint64_t base_;
  uint64_t constant_bytes_;
  uint64_t bytes_;
  std::unique_ptr<std::byte, Free> memory_;
  Random random_;
  std::map<uint64_t, uint64_t> free_;  ///< begin → length
  struct Piece {
    uint64_t begin;  ///< of what it takes with its guards
    uint64_t total;
    uint64_t length;
  };
  std::map<uint64_t, Piece> held_;  ///< by address
  uint64_t digest_ = 0;
  bool buried_ = false;
  bool stained_ = false;
};

/// How the engine reaches an arena: in place, or by copying, where each placement is told of.
class ArenaWindow final : public memory::Window {
 public:
  /// `observer` null: in place.
  ArenaWindow(std::shared_ptr<Arena> arena, PlacementObserver* observer)
      : arena_(std::move(arena)), observer_(observer) {}

  [[nodiscard]] memory::Extent resolve(uint64_t address, uint64_t length) noexcept override;
  [[nodiscard]] memory::AccessResult read(uint64_t address,
                                          std::span<std::byte> out) noexcept override;
  [[nodiscard]] memory::AccessResult write(uint64_t address,
                                           std::span<const std::byte> in) noexcept override;
  [[nodiscard]] memory::WindowKind kind() const noexcept override {
    return memory::WindowKind::kDirect;
  }
  [[nodiscard]] bool needs_guard() const noexcept override { return false; }

 private:
  std::shared_ptr<Arena> arena_;
  PlacementObserver* observer_;
};

}  // namespace flexins::sim
