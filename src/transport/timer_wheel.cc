#include "transport/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace flexins::transport {

void TimerNode::unlink() noexcept {
  deadline_ = base::kNever;
  if (next == nullptr) return;
  previous->next = next;
  next->previous = previous;
  previous = next = nullptr;
}

void TimerWheel::List::append(TimerNode& node) noexcept {
  node.previous = ends.previous;
  node.next = &ends;
  ends.previous->next = &node;
  ends.previous = &node;
}

void TimerWheel::List::take(List& other) noexcept {
  if (other.empty()) return;
  ends = other.ends;
  ends.next->previous = ends.previous->next = &ends;
  other.ends = {&other.ends, &other.ends};
}

TimerWheel::~TimerWheel() {
  const auto drop = [](List& list) {
    while (!list.empty()) list.front().unlink();
  };
  for (auto& level : slots_) {
    for (List& list : level) drop(list);
  }
  drop(expiring_);
}

void TimerWheel::schedule(TimerNode& node, base::TimeNs deadline) noexcept {
  if (deadline == base::kNever) return cancel(node);
  if (node.scheduled()) {
    // Later than where it hangs: it is hung again when that comes up.
    if (deadline / kTickNs >= node.placed_tick_) {
      node.deadline_ = deadline;
      return;
    }
    node.unlink();
  }
  node.deadline_ = deadline;
  place(node);
}

/// Hangs a node into the slot of its deadline: the level is that of the highest bit in which its
/// tick differs from the present one.
void TimerWheel::place(TimerNode& node) noexcept {
  const uint64_t rounded = node.deadline_ / kTickNs + (node.deadline_ % kTickNs != 0 ? 1 : 0);
  const uint64_t tick = std::max(rounded, tick_);
  const uint64_t differs = (tick ^ tick_) | 1;
  const auto level = static_cast<uint32_t>(std::bit_width(differs) - 1) / kLevelBits;
  const auto slot = static_cast<uint32_t>(tick >> (level * kLevelBits)) & (kSlots - 1);
  node.placed_tick_ = tick;
  slots_[level][slot].append(node);
  occupied_[level] |= uint64_t{1} << slot;
}

TimerWheel::Upcoming TimerWheel::upcoming() noexcept {
  for (uint32_t level = 0; level < kLevels; ++level) {
    const uint32_t shift = level * kLevelBits;
    const auto present = static_cast<uint32_t>(tick_ >> shift) & (kSlots - 1);
    // A node is never behind the present slot of its level: a lower level would hold it.
    uint64_t ahead = occupied_[level] & (~uint64_t{0} << present);
    while (ahead != 0) {
      const auto slot = static_cast<uint32_t>(std::countr_zero(ahead));
      if (!slots_[level][slot].empty()) {
        const uint64_t level_start = tick_ >> shift >> kLevelBits << kLevelBits;
        return {level, slot, std::max((level_start + slot) << shift, tick_)};
      }
      ahead &= ahead - 1;
      occupied_[level] &= ~(uint64_t{1} << slot);
    }
  }
  return {};
}

void TimerWheel::begin_expiry(base::TimeNs now) noexcept {
  now_tick_ = std::max(now / kTickNs, tick_);
}

TimerNode* TimerWheel::take_expired(base::TimeNs now) noexcept {
  for (;;) {
    while (!expiring_.empty()) {
      TimerNode& node = expiring_.front();
      const base::TimeNs deadline = node.deadline_;
      node.unlink();
      if (deadline <= now) return &node;
      node.deadline_ = deadline;
      place(node);
    }
    const Upcoming first = upcoming();
    if (first.level == kLevels || first.tick > now_tick_) {
      tick_ = now_tick_;
      return nullptr;
    }
    tick_ = first.tick;
    // The whole slot at once: what is hung up again meanwhile has to wait for its own turn.
    expiring_.take(slots_[first.level][first.slot]);
    occupied_[first.level] &= ~(uint64_t{1} << first.slot);
  }
}

base::TimeNs TimerWheel::next() noexcept {
  const Upcoming first = upcoming();
  return first.level == kLevels ? base::kNever : first.tick * kTickNs;
}

}  // namespace flexins::transport
