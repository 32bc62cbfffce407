#pragma once

#include <cstdint>

namespace flexins::transport {

/// Go-back-N: what is lost is sent again together with all that follows it, once per loss. The
/// peer reports a gap once, but what is still in flight can bring more signs of the same gap (a
/// NAK that a duplicate drew, further READ responses behind a missing one): they change nothing
/// until the gap has been passed. Only the timer repeats a repetition.
class GoBackN {
 public:
  void reset() noexcept { repaired_ = kNone; }

  /// A sign that `oldest` (extended PSN of the oldest packet not acknowledged) was lost. True when
  /// transmission is to go back to it; false when that was done already.
  [[nodiscard]] bool on_gap(uint64_t oldest) noexcept {
    if (repaired_ == oldest) return false;
    repaired_ = oldest;
    return true;
  }

  /// The timer sends all again: the next gap reported is news, even at the same place.
  void on_timeout() noexcept { repaired_ = kNone; }

 private:
  static constexpr uint64_t kNone = UINT64_MAX;
  uint64_t repaired_ = kNone;
};

}  // namespace flexins::transport
