#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"

namespace flexins::sim {

/// Something that things happen to.
class Actor {
 public:
  virtual ~Actor() = default;
  /// `what`: as it was given to EventQueue::at.
  virtual void on_event(uint64_t what, base::TimeNs now) = 0;
};

/// The virtual clock. Events happen in order of their time; those of one instant in the order in
/// which they were asked for.
class EventQueue {
 public:
  [[nodiscard]] base::TimeNs now() const { return now_; }
  /// Never in the past: an earlier `time` is now.
  void at(base::TimeNs time, Actor& actor, uint64_t what = 0);
  void after(base::TimeNs delay, Actor& actor, uint64_t what = 0) { at(now_ + delay, actor, what); }
  /// base::kNever when nothing is to come.
  [[nodiscard]] base::TimeNs next() const { return heap_.empty() ? base::kNever : heap_[0].time; }
  /// Lets the next event happen; there is one.
  void run_one();
  /// Nothing happens until `time` that has not been asked for; the clock then stands there.
  void advance(base::TimeNs time) { now_ = time > now_ ? time : now_; }

 private:
  struct Event {
    base::TimeNs time;
    uint64_t sequence;
    Actor* actor;
    uint64_t what;
  };
  static bool later(const Event& a, const Event& b) {
    return a.time != b.time ? a.time > b.time : a.sequence > b.sequence;
  }

  std::vector<Event> heap_;
  base::TimeNs now_ = 0;
  uint64_t sequence_ = 0;
};

}  // namespace flexins::sim
