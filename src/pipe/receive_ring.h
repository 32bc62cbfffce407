#pragma once

#include <algorithm>
#include <cstring>
#include <span>

#include "pipe/layout.h"

/// Both ends of a QP's receive ring. The application posts, the engine reads on demand. The
/// application never has more than `depth` entries outstanding (it counts completions), so the ring
/// needs no consumer index in shared memory.

namespace flexins::pipe {

/// The application's end.
class ReceiveProducer {
 public:
  ReceiveProducer() = default;
  /// `depth`: a power of two; `max_sge`: as granted at creation; `position`: where another ring
  /// ended that this one goes on from.
  ReceiveProducer(std::byte* memory, uint32_t depth, uint32_t max_sge, uint32_t position = 0)
      : header_(reinterpret_cast<ReceiveRingHeader*>(memory)),
        entries_(memory + kRingHeaderBytes),
        mask_(depth - 1),
        entry_bytes_(receive_entry_bytes(max_sge)),
        position_(position) {}

  /// Writes one entry; it becomes visible with publish(). sge.size() <= max_sge.
  void write(uint64_t wr_id, std::span<const base::Sge> sge) {
    std::byte* at = entries_ + entry_bytes_ * (position_ & mask_);
    const ReceiveEntry entry{wr_id, static_cast<uint32_t>(sge.size()), 0};
    std::memcpy(at, &entry, sizeof entry);
    if (!sge.empty()) std::memcpy(at + sizeof entry, sge.data(), sge.size_bytes());
    ++position_;
  }
  void publish() { header_->produced.store(position_, std::memory_order_release); }
  /// After a full fence behind publish(): does the engine want a SubmissionKind::kReceiveKick?
  [[nodiscard]] bool needs_kick() const {
    return header_->need_kick.load(std::memory_order_relaxed) != 0;
  }
  /// wr_id of the entry at `position`, for completing it without an engine.
  [[nodiscard]] uint64_t wr_id_at(uint32_t position) const {
    uint64_t wr_id;
    std::memcpy(&wr_id, entries_ + entry_bytes_ * (position & mask_), sizeof wr_id);
    return wr_id;
  }
  [[nodiscard]] uint32_t position() const { return position_; }
  /// SRQ: entries that the engine has taken.
  [[nodiscard]] uint32_t consumed() const {
    return header_->consumed.load(std::memory_order_acquire);
  }
  /// The QP was reset: both sides begin at 0 again.
  void reset() {
    position_ = 0;
    publish();
  }

 private:
  ReceiveRingHeader* header_ = nullptr;
  std::byte* entries_ = nullptr;
  uint32_t mask_ = 0;
  size_t entry_bytes_ = 0;
  uint32_t position_ = 0;
};

/// The engine's end.
class ReceiveConsumer {
 public:
  ReceiveConsumer() = default;
  ReceiveConsumer(std::byte* memory, uint32_t depth, uint32_t max_sge)
      : header_(reinterpret_cast<ReceiveRingHeader*>(memory)),
        entries_(memory + kRingHeaderBytes),
        mask_(depth - 1),
        max_sge_(max_sge == 0 ? 1 : max_sge),
        entry_bytes_(receive_entry_bytes(max_sge)) {}

  [[nodiscard]] bool empty() const { return available() == 0; }
  /// Entries that can be taken.
  [[nodiscard]] uint32_t available() const {
    const uint32_t posted = header_->produced.load(std::memory_order_acquire) - position_;
    // More than the ring holds is a lie; there is nothing that could be trusted then.
    return posted > mask_ + 1 ? 0 : posted;
  }

  /// Copies the next entry out, once. `sge` holds max_sge elements; `sge_count` is bounded by it.
  [[nodiscard]] bool take(uint64_t& wr_id, std::span<base::Sge> sge, uint32_t& sge_count) {
    if (empty()) return false;
    const std::byte* at = entries_ + entry_bytes_ * (position_ & mask_);
    ReceiveEntry entry;
    std::memcpy(&entry, at, sizeof entry);
    wr_id = entry.wr_id;
    sge_count = std::min({entry.sge_count, max_sge_, static_cast<uint32_t>(sge.size())});
    std::memcpy(sge.data(), at + sizeof entry, sge_count * sizeof(base::Sge));
    ++position_;
    return true;
  }

  /// SRQ: tells the producer what has been taken.
  void release() { header_->consumed.store(position_, std::memory_order_release); }

  /// Goes on in another ring (zeroed; `depth`: a power of two), with the entries that wait here,
  /// while the producer stands still. False, and nothing has changed, when they do not fit.
  [[nodiscard]] bool move_to(std::byte* memory, uint32_t depth) {
    const uint32_t waiting = available();
    if (waiting > depth) return false;
    for (uint32_t at = position_; at != position_ + waiting; ++at) {
      std::memcpy(memory + kRingHeaderBytes + entry_bytes_ * (at & (depth - 1)),
                  entries_ + entry_bytes_ * (at & mask_), entry_bytes_);
    }
    auto* header = reinterpret_cast<ReceiveRingHeader*>(memory);
    header->need_kick.store(header_->need_kick.load(std::memory_order_relaxed),
                            std::memory_order_relaxed);
    header->consumed.store(position_, std::memory_order_relaxed);
    header->produced.store(position_ + waiting, std::memory_order_release);
    header_ = header;
    entries_ = memory + kRingHeaderBytes;
    mask_ = depth - 1;
    return true;
  }

  void set_need_kick(bool wanted) {
    header_->need_kick.store(wanted ? 1 : 0, std::memory_order_seq_cst);
  }
  void reset() { position_ = 0; }

 private:
  ReceiveRingHeader* header_ = nullptr;
  const std::byte* entries_ = nullptr;
  uint32_t mask_ = 0;
  uint32_t max_sge_ = 1;
  size_t entry_bytes_ = 0;
  uint32_t position_ = 0;
};

}  // namespace flexins::pipe
