#pragma once

#include <algorithm>

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
/// while work arrives within it and shrinks when it does not.
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
    return idle_ns < spin_ns_ + times_.yield_ns ? IdleAction::kYield : IdleAction::kSleep;
  }

  [[nodiscard]] base::TimeNs spin_ns() const { return spin_ns_; }

 private:
  static constexpr base::TimeNs kSpinStepNs = 250;

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
};

}  // namespace flexins::daemon
