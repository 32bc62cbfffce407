#pragma once

#include <cstring>
#include <span>

#include "pipe/layout.h"

/// Both ends of a submission ring. The producer is the application (one thread at a time per ring),
/// the consumer the engine. Neither makes a system call.

namespace flexins::pipe {

/// The application's end.
class SubmissionProducer {
 public:
  SubmissionProducer() = default;
  /// `memory`: submission_ring_bytes() bytes, zeroed by the engine. `position`: where both sides
  /// begin to count; other than 0 only to see positions wrap.
  explicit SubmissionProducer(std::byte* memory, uint32_t position = 0)
      : header_(reinterpret_cast<SubmissionRingHeader*>(memory)),
        slots_(reinterpret_cast<SubmissionSlot*>(memory + kRingHeaderBytes)),
        position_(position),
        consumed_(position) {}

  /// Room for an entry of `slot_count` slots and the free slot behind it?
  [[nodiscard]] bool has_room(uint32_t slot_count) {
    if (kSubmissionRingSlots - (position_ - consumed_) > slot_count) return true;
    consumed_ = header_->consumed.load(std::memory_order_acquire);
    return kSubmissionRingSlots - (position_ - consumed_) > slot_count;
  }

  /// Slot `index` of the entry under construction. Slots of one entry may wrap around the end.
  [[nodiscard]] SubmissionSlot& slot(uint32_t index) {
    return slots_[(position_ + index) % kSubmissionRingSlots];
  }

  /// Makes the entry of `slot_count` slots visible. All but the first slot's `sequence` is written.
  void publish(uint32_t slot_count) {
    // Of all values, a slot's position is the one that it never has to show (that is position + 1).
    slot(slot_count).sequence.store(position_ + slot_count, std::memory_order_relaxed);
    slot(0).sequence.store(position_ + 1, std::memory_order_release);
    position_ += slot_count;
  }

 private:
  SubmissionRingHeader* header_ = nullptr;
  SubmissionSlot* slots_ = nullptr;
  uint32_t position_ = 0;
  uint32_t consumed_ = 0;
};

/// The engine's private copy of one entry.
struct SubmissionEntry {
  SubmissionSlot slots[kMaxSubmissionSlots];
};

/// The engine's end. Whatever the application writes, take() stays inside the ring.
class SubmissionConsumer {
 public:
  SubmissionConsumer() = default;
  explicit SubmissionConsumer(std::byte* memory, uint32_t position = 0)
      : header_(reinterpret_cast<SubmissionRingHeader*>(memory)),
        slots_(reinterpret_cast<SubmissionSlot*>(memory + kRingHeaderBytes)),
        position_(position) {}

  [[nodiscard]] bool empty() const {
    return at(position_).sequence.load(std::memory_order_acquire) != position_ + 1;
  }

  /// Copies the next entry out, once; its slot_count is then bounded. False when there is none.
  [[nodiscard]] bool take(SubmissionEntry& out) {
    if (empty()) return false;
    copy_slot(out.slots[0], at(position_));
    uint32_t count = out.slots[0].slot_count;
    if (count < 1 || count > kMaxSubmissionSlots) count = out.slots[0].slot_count = 1;
    for (uint32_t i = 1; i < count; ++i) copy_slot(out.slots[i], at(position_ + i));
    position_ += count;
    return true;
  }

  /// Tells the producer what has been taken; once per batch.
  void release() { header_->consumed.store(position_, std::memory_order_release); }

 private:
  [[nodiscard]] SubmissionSlot& at(uint32_t position) const {
    return slots_[position % kSubmissionRingSlots];
  }
  static void copy_slot(SubmissionSlot& to, const SubmissionSlot& from) {
    std::memcpy(static_cast<void*>(&to), static_cast<const void*>(&from), kSlotBytes);
  }

  SubmissionRingHeader* header_ = nullptr;
  SubmissionSlot* slots_ = nullptr;
  uint32_t position_ = 0;
};

}  // namespace flexins::pipe
