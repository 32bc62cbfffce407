#pragma once

#include <algorithm>
#include <cstdint>

#include "base/time.h"

namespace flexins::engine {

/// A token bucket: how fast one QP may send. Bytes may be overdrawn by one packet, so that a packet
/// larger than the bucket still leaves; what follows waits accordingly longer.
class Pacer {
 public:
  /// Rate 0: no limit. `burst_bytes` may leave at once after a pause.
  void set(uint64_t bytes_per_second, uint64_t burst_bytes, base::TimeNs now) noexcept {
    rate_ = bytes_per_second;
    burst_ = static_cast<int64_t>(burst_bytes) * kPrecision;
    tokens_ = burst_;
    refilled_ = now;
  }
  [[nodiscard]] bool limits() const { return rate_ != 0; }

  /// Brings the bucket up to date. Call before may_send.
  void refill(base::TimeNs now) noexcept {
    if (now <= refilled_) return;
    const base::TimeNs elapsed = std::min(now - refilled_, kMostSavedNs);
    const uint64_t earned = elapsed * rate_ / kPerToken;
    tokens_ = std::min(burst_, tokens_ + static_cast<int64_t>(earned));
    // Time that did not make a whole token counts again.
    refilled_ = elapsed == kMostSavedNs ? now : refilled_ + time_of(earned);
  }
  [[nodiscard]] bool may_send() const { return tokens_ > 0; }
  void charge(uint64_t bytes) noexcept { tokens_ -= static_cast<int64_t>(bytes) * kPrecision; }
  /// When may_send will be true again.
  [[nodiscard]] base::TimeNs ready_at() const {
    if (tokens_ > 0) return refilled_;
    return refilled_ + time_of(static_cast<uint64_t>(1 - tokens_));
  }

 private:
  /// Tokens are thousandths of bytes, so that short pauses at low rates count.
  static constexpr int64_t kPrecision = 1000;
  static constexpr uint64_t kPerToken = base::kSecond / kPrecision;
  /// So much of a pause counts at most; at 100 Gbit/s the products above stay below 2^63.
  static constexpr base::TimeNs kMostSavedNs = base::kSecond / 2;

  [[nodiscard]] base::TimeNs time_of(uint64_t tokens) const {
    return (tokens * kPerToken + rate_ - 1) / rate_;
  }

  uint64_t rate_ = 0;
  int64_t burst_ = 0;
  int64_t tokens_ = 0;
  base::TimeNs refilled_ = 0;
};

}  // namespace flexins::engine
