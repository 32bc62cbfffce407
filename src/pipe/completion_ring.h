#pragma once

#include <cstring>

#include "pipe/layout.h"

/// Both ends of a completion ring. The engine produces, the application polls.

namespace flexins::pipe {

/// The engine's end.
class CompletionProducer {
 public:
  CompletionProducer() = default;
  /// `depth`: a power of two. `position`: where both sides begin to count; other than 0 only to see
  /// positions wrap.
  CompletionProducer(std::byte* memory, uint32_t depth, uint32_t position = 0)
      : header_(reinterpret_cast<CompletionRingHeader*>(memory)),
        entries_(reinterpret_cast<CompletionEntry*>(memory + kRingHeaderBytes)),
        depth_(depth),
        position_(position),
        consumed_(position) {}

  /// False when the ring is full: an overrun, which kills a CQ (IBTA 11.6.3.1).
  [[nodiscard]] bool has_room() {
    if (position_ - consumed_ < depth_) return true;
    consumed_ = header_->consumed.load(std::memory_order_acquire);
    return position_ - consumed_ < depth_;
  }

  /// Publishes an entry (all but `sequence` set). Only after has_room().
  void push(const CompletionEntry& entry) {
    CompletionEntry& at = entries_[position_ & (depth_ - 1)];
    std::memcpy(static_cast<void*>(&at), static_cast<const void*>(&entry),
                offsetof(CompletionEntry, sequence));
    at.sequence.store(++position_, std::memory_order_release);
  }

  /// Takes the application's wish for an event if this completion fulfils it. Call after push.
  [[nodiscard]] bool take_arm(bool solicited) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const uint32_t armed = header_->armed.load(std::memory_order_relaxed);
    if (armed == kDisarmed || (armed == kArmedSolicited && !solicited)) return false;
    return header_->armed.exchange(kDisarmed, std::memory_order_acq_rel) != kDisarmed;
  }

  /// Would a completion have to send an event now? Of use to who holds events back.
  [[nodiscard]] bool awaited(bool solicited) const {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const uint32_t armed = header_->armed.load(std::memory_order_relaxed);
    return armed == kArmedAny || (armed == kArmedSolicited && solicited);
  }

  /// Completions that the application has not consumed, as it says.
  [[nodiscard]] uint32_t waiting() const {
    return position_ - header_->consumed.load(std::memory_order_acquire);
  }

  /// Goes on in another ring, `memory` of `depth` entries, with what the application has not
  /// consumed and its wish for an event. The application leaves the old ring alone meanwhile.
  /// False when the entries do not fit; then the old ring stays in use.
  [[nodiscard]] bool move_to(std::byte* memory, uint32_t depth) {
    const uint32_t consumed = header_->consumed.load(std::memory_order_acquire);
    const uint32_t waiting = position_ - consumed;
    // More than the old ring holds is a lie.
    if (waiting > depth || waiting > depth_) return false;
    CompletionProducer next(memory, depth, position_);
    next.consumed_ = consumed;
    for (uint32_t at = consumed; at != position_; ++at) {
      std::memcpy(static_cast<void*>(&next.entries_[at & (depth - 1)]),
                  static_cast<const void*>(&entries_[at & (depth_ - 1)]), kSlotBytes);
    }
    next.header_->consumed.store(consumed, std::memory_order_relaxed);
    next.header_->armed.store(header_->armed.load(std::memory_order_relaxed),
                              std::memory_order_release);
    *this = next;
    return true;
  }

  void mark_overflowed() { header_->overflowed.store(1, std::memory_order_release); }

 private:
  CompletionRingHeader* header_ = nullptr;
  CompletionEntry* entries_ = nullptr;
  uint32_t depth_ = 0;
  uint32_t position_ = 0;
  uint32_t consumed_ = 0;
};

/// The application's end; one thread at a time.
class CompletionConsumer {
 public:
  CompletionConsumer() = default;
  CompletionConsumer(std::byte* memory, uint32_t depth, uint32_t position = 0)
      : header_(reinterpret_cast<CompletionRingHeader*>(memory)),
        entries_(reinterpret_cast<CompletionEntry*>(memory + kRingHeaderBytes)),
        depth_(depth),
        position_(position) {}

  /// The oldest completion not yet consumed, or null.
  [[nodiscard]] const CompletionEntry* front() const {
    const CompletionEntry& at = entries_[position_ & (depth_ - 1)];
    return at.sequence.load(std::memory_order_acquire) == position_ + 1 ? &at : nullptr;
  }
  void pop() { ++position_; }
  [[nodiscard]] uint32_t position() const { return position_; }
  /// Gives consumed entries back; once per batch.
  void release() { header_->consumed.store(position_, std::memory_order_release); }

  /// Asks for one event. The caller polls once more after it, as verbs demand.
  void arm(bool solicited_only) {
    // A wish for any completion is not weakened by a later one for solicited ones only.
    uint32_t current = header_->armed.load(std::memory_order_relaxed);
    const uint32_t wanted = solicited_only ? kArmedSolicited : kArmedAny;
    while (current != kArmedAny &&
           !header_->armed.compare_exchange_weak(current, wanted, std::memory_order_seq_cst)) {
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  [[nodiscard]] bool overflowed() const {
    return header_->overflowed.load(std::memory_order_acquire) != 0;
  }

 private:
  CompletionRingHeader* header_ = nullptr;
  CompletionEntry* entries_ = nullptr;
  uint32_t depth_ = 0;
  uint32_t position_ = 0;
};

}  // namespace flexins::pipe
