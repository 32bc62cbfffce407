#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace flexins::transport {

/// Neighbours in a circular list.
struct TimerLinks {
  TimerLinks* previous = nullptr;
  TimerLinks* next = nullptr;
};

/// A place in a TimerWheel; a member of what has a deadline. Not to be moved while scheduled.
class TimerNode : private TimerLinks {
 public:
  TimerNode() = default;
  TimerNode(const TimerNode&) = delete;
  TimerNode& operator=(const TimerNode&) = delete;
  ~TimerNode() { unlink(); }

  [[nodiscard]] bool scheduled() const { return next != nullptr; }
  /// base::kNever when not scheduled.
  [[nodiscard]] base::TimeNs deadline() const { return deadline_; }

  void* owner = nullptr;  ///< whatever the wheel's user wants to find again

 private:
  friend class TimerWheel;
  void unlink() noexcept;

  base::TimeNs deadline_ = base::kNever;
  uint64_t placed_tick_ = 0;  ///< never later than the deadline's
};

/// Deadlines of many objects, without allocation. Scheduling, cancelling and expiring take constant
/// time; moving a deadline that is already scheduled to a later time is two stores, since the node
/// is moved only when its old place comes up. Deadlines are served at most one tick late.
class TimerWheel {
 public:
  static constexpr base::TimeNs kTickNs = 1024;

  explicit TimerWheel(base::TimeNs now = 0) : tick_(now / kTickNs) {}
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;
  /// Nodes may outlive the wheel; they are not scheduled then.
  ~TimerWheel();

  /// Sets the node's deadline, now or again; base::kNever cancels.
  void schedule(TimerNode& node, base::TimeNs deadline) noexcept;
  void cancel(TimerNode& node) noexcept { node.unlink(); }

  /// Calls `callback(node)` for every node whose deadline, rounded up to a tick, is at or before
  /// `now`; the node is not scheduled then. The callback may schedule and cancel any node and
  /// destroy its own.
  template <typename Callback>
  void expire(base::TimeNs now, Callback&& callback) {
    begin_expiry(now);
    while (TimerNode* node = take_expired(now)) callback(*node);
  }

  /// A time at or before the earliest deadline, one tick of rounding aside; base::kNever when there
  /// is none. Calling expire at that time makes the next answer sharper.
  [[nodiscard]] base::TimeNs next() noexcept;

 private:
  static constexpr uint32_t kLevelBits = 6;
  static constexpr uint32_t kSlots = 1 << kLevelBits;
  static constexpr uint32_t kLevels = 9;  ///< 54 bits: every tick there is

  /// A circular list; `ends` comes before the first node and after the last.
  struct List {
    TimerLinks ends{&ends, &ends};
    [[nodiscard]] bool empty() const { return ends.next == &ends; }
    [[nodiscard]] TimerNode& front() const { return *static_cast<TimerNode*>(ends.next); }
    void append(TimerNode& node) noexcept;
    /// Takes all nodes of `other`; this list is empty before.
    void take(List& other) noexcept;
  };
  /// The slot that comes up first.
  struct Upcoming {
    uint32_t level = kLevels;
    uint32_t slot = 0;
    uint64_t tick = 0;
  };

  void place(TimerNode& node) noexcept;
  [[nodiscard]] Upcoming upcoming() noexcept;
  void begin_expiry(base::TimeNs now) noexcept;
  [[nodiscard]] TimerNode* take_expired(base::TimeNs now) noexcept;

  std::array<std::array<List, kSlots>, kLevels> slots_;
  /// Slots that may hold nodes. A bit may outlive the last node that was cancelled in its slot.
  std::array<uint64_t, kLevels> occupied_{};
  List expiring_;  ///< nodes of a slot that has come up
  uint64_t tick_;  ///< everything before has been served
  uint64_t now_tick_ = 0;
};

}  // namespace flexins::transport
