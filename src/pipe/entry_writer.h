#pragma once

#include <algorithm>
#include <cstring>

#include "pipe/layout.h"

namespace flexins::pipe {

/// The part of a send work request that has a fixed place in its first slot.
struct SendHead {
  uint64_t wr_id = 0;
  uint64_t remote_address = 0;
  uint32_t remote_key = 0;
  uint32_t immediate = 0;  ///< network order
  base::WrOpcode opcode = base::WrOpcode::kSend;
  uint8_t flags = 0;  ///< base::SendFlags
  uint32_t remote_srqn = 0;
};

/// Lays a submission entry out in slots, wherever those are: `SlotAt(i)` is the i-th of the entry.
/// Does not touch any slot's sequence but as payload bytes of a further slot.
template <typename SlotAt>
class EntryWriter {
 public:
  explicit EntryWriter(SlotAt slot_at) : slot_at_(slot_at) {}

  void head(uint32_t qpn, SubmissionKind kind, const SendHead& head) {
    SubmissionSlot& first = slot_at_(0);
    first.qpn = qpn;
    first.kind = static_cast<uint8_t>(kind);
    first.opcode = static_cast<uint8_t>(head.opcode);
    first.flags = head.flags;
    first.wr_id = head.wr_id;
    first.remote_address = head.remote_address;
    first.remote_key = head.remote_key;
    first.immediate = head.immediate;
    first.remote_srqn = head.remote_srqn;
  }

  /// Next scatter/gather element.
  void sge(uint64_t address, uint32_t length, uint32_t key) {
    const base::Sge element{address, length, key};
    append(&element, sizeof element);
    ++sge_count_;
  }

  /// Next inline bytes.
  void append(const void* bytes, size_t length) {
    const auto* from = static_cast<const std::byte*>(bytes);
    while (length > 0) {
      size_t room;
      std::byte* to = place(room);
      const size_t piece = std::min(room, length);
      std::memcpy(to, from, piece);
      from += piece;
      length -= piece;
      bytes_ += piece;
    }
  }

  /// The operands of an atomic or a bind open the second slot; there is at most one element, which
  /// is in the first.
  template <typename Operands>
  void operands(const Operands& values) {
    static_assert(sizeof values == 16);
    std::memcpy(static_cast<void*>(&slot_at_(1)), &values, sizeof values);
    slots_least_ = 2;
  }

  /// Completes the first slot; returns the entry's slots.
  uint32_t finish(bool is_inline) {
    SubmissionSlot& first = slot_at_(0);
    first.sge_count = static_cast<uint8_t>(sge_count_);
    first.inline_length = is_inline ? static_cast<uint16_t>(bytes_) : 0;
    first.slot_count = static_cast<uint8_t>(std::max(slots_for(bytes_), slots_least_));
    return first.slot_count;
  }

  /// Slots of an entry with `bytes` bytes of elements or inline data.
  [[nodiscard]] static constexpr uint32_t slots_for(size_t bytes) {
    if (bytes <= kHeadBytes) return 1;
    return 1 + static_cast<uint32_t>((bytes - kHeadBytes + kSlotBytes - 1) / kSlotBytes);
  }

 private:
  static constexpr size_t kHeadBytes = sizeof(SubmissionSlot::inline_head);
  static_assert(kHeadBytes == sizeof(base::Sge));

  /// Where the next byte goes, and how many fit there.
  std::byte* place(size_t& room) {
    if (bytes_ < kHeadBytes) {
      room = kHeadBytes - bytes_;
      return reinterpret_cast<std::byte*>(slot_at_(0).inline_head) + bytes_;
    }
    const size_t behind = bytes_ - kHeadBytes;
    const size_t offset = behind % kSlotBytes;
    room = kSlotBytes - offset;
    SubmissionSlot& slot = slot_at_(static_cast<uint32_t>(1 + behind / kSlotBytes));
    return reinterpret_cast<std::byte*>(&slot) + offset;
  }

  SlotAt slot_at_;
  size_t bytes_ = 0;
  uint32_t sge_count_ = 0;
  uint32_t slots_least_ = 1;
};

static_assert(EntryWriter<int>::slots_for(base::Limits::kMaxSge * sizeof(base::Sge)) <=
              kMaxSubmissionSlots);
static_assert(EntryWriter<int>::slots_for(base::Limits::kMaxInlineBytes) <= kMaxSubmissionSlots);

}  // namespace flexins::pipe
