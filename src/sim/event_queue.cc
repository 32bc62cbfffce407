#include "sim/event_queue.h"

#include <algorithm>

namespace flexins::sim {

void EventQueue::at(base::TimeNs time, Actor& actor, uint64_t what) {
  if (time == base::kNever) return;
  heap_.push_back({std::max(time, now_), sequence_++, &actor, what});
  std::push_heap(heap_.begin(), heap_.end(), later);
}

void EventQueue::run_one() {
  std::pop_heap(heap_.begin(), heap_.end(), later);
  const Event event = heap_.back();
  heap_.pop_back();
  now_ = event.time;
  event.actor->on_event(event.what, now_);
}

}  // namespace flexins::sim
