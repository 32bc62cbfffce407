#pragma once

#include <algorithm>
#include <cstdint>

#include "base/time.h"

namespace flexins::daemon {

/// How a worker without work passes its time; see docs/architecture.md, "Sleeping".
struct IdleTimes {
  /// Longest busy spin. What is really spun is learnt from what spinning brought.
  base::TimeNs spin_max_ns = 5 * base::kMicrosecond;
  /// After spinning, the core is offered to others (sched_yield) for this long before sleeping.
  base::TimeNs yield_ns = 100 * base::kMicrosecond;
};

enum class IdleAction : uint8_t { kSpin, kYield, kSleep };

/// Chooses between spinning, yielding and sleeping. Spinning takes the core from the very peer that
/// is waited for where there are fewer cores than runnable threads, so it has to pay: it grows
/// while work arrives within it and shrinks when it does not. Yielding has to pay too: where a
/// program that polls memory gets the core, it keeps it for its whole slice (milliseconds), while
/// sleeping brings the worker back within microseconds of being woken. Then yields are skipped.
class IdleBackoff {
 public:
  explicit IdleBackoff(IdleTimes times) : times_(times), spin_ns_(times.spin_max_ns) {}

  /// The last step did something.
  void worked(base::TimeNs now) {
    if (idle_since_ == base::kNever) return;
    learn(now - idle_since_);
    idle_since_ = base::kNever;
  }

  /// The last step did nothing.
  [[nodiscard]] IdleAction idle(base::TimeNs now) {
    if (idle_since_ == base::kNever) idle_since_ = now;
    const base::TimeNs idle_ns = now - idle_since_;
    if (idle_ns < spin_ns_) return IdleAction::kSpin;
    const bool may_yield = yields_skipped_ >= skip_yields_;
    return may_yield && idle_ns < spin_ns_ + times_.yield_ns ? IdleAction::kYield
                                                             : IdleAction::kSleep;
  }

  /// A yield took so long.
  void yielded(base::TimeNs took_ns) {
    if (took_ns < kYieldTooLongNs) {
      skip_yields_ = 0;
      return;
    }
    skip_yields_ = std::clamp<uint32_t>(skip_yields_ * 2, kSkipMin, kSkipMax);
    yields_skipped_ = 0;
  }
  /// The worker slept, or would have.
  void slept() {
    if (yields_skipped_ < skip_yields_) ++yields_skipped_;
  }

  [[nodiscard]] base::TimeNs spin_ns() const { return spin_ns_; }

 private:
  static constexpr base::TimeNs kSpinStepNs = 250;
  static constexpr base::TimeNs kYieldTooLongNs = 200 * base::kMicrosecond;
  /// Idle periods without yields after one that took too long; doubled each time.
  static constexpr uint32_t kSkipMin = 64;
  static constexpr uint32_t kSkipMax = 16'384;

  void learn(base::TimeNs idle_ns) {
    if (idle_ns <= times_.spin_max_ns) {
      spin_ns_ = std::min(times_.spin_max_ns, spin_ns_ * 2 + kSpinStepNs);
    } else {
      spin_ns_ /= 2;
    }
  }

  IdleTimes times_;
  base::TimeNs spin_ns_;
  base::TimeNs idle_since_ = base::kNever;
  uint32_t skip_yields_ = 0;
  uint32_t yields_skipped_ = 0;
};

}  // namespace flexins::daemon
