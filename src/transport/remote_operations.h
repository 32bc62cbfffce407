#pragma once

#include <cstdint>
#include <memory>

#include "base/ids.h"

namespace flexins::transport {

/// A READ or atomic request that the responder accepted: what it still has to answer, and what it
/// needs to answer a repetition.
struct RemoteOperation {
  base::Psn first_psn;
  uint32_t packets = 0;  ///< PSNs of its responses
  uint32_t key = 0;
  uint32_t length = 0;   ///< bytes; 8 for an atomic
  uint64_t address = 0;  ///< atomic: the original value instead
  base::PdId pd;         ///< of `key`
  uint32_t msn = 0;
  uint32_t next = 0;      ///< index of the next response to send
  uint32_t end = 0;       ///< index after the last response to send; next == end: nothing is due
  uint32_t byte_end = 0;  ///< READ: offset after the last byte to send
  bool is_atomic = false;
  bool is_atomic_write = false;  ///< answered like a READ of nothing
  bool is_repetition = false;    ///< what is due was answered before

  [[nodiscard]] bool due() const { return next < end; }
  [[nodiscard]] bool covers(base::Psn psn) const {
    const int32_t index = distance(psn, first_psn);
    return index >= 0 && static_cast<uint32_t>(index) < packets;
  }
};

/// The responder's resources for READs and atomics, max_dest_rd_atomic of them, oldest first. One
/// that has been answered stays until its place is needed: repetitions are answered from it.
class RemoteOperations {
 public:
  /// Sized once per life of a connection. False when memory is short.
  [[nodiscard]] bool allocate(uint32_t capacity);
  void clear() noexcept {
    begin_ = size_ = 0;
    due_ = 0;
  }

  /// A new place at the end, or null when all are taken by operations that still have to be
  /// answered for the first time. A repetition gives way: who asks for more than fits has the
  /// oldest answer.
  [[nodiscard]] RemoteOperation* add() noexcept;
  /// Undoes the add() before: its operation could not be executed.
  void take_back() noexcept { --size_; }
  /// Makes responses [next, end) of `operation` due once more.
  void repeat(RemoteOperation& operation, uint32_t next, uint32_t end) noexcept {
    operation.is_repetition = operation.is_repetition || !operation.due();
    set_due(operation, next, end);
  }
  /// The operation whose responses include this PSN.
  [[nodiscard]] RemoteOperation* find(base::Psn psn) noexcept;
  /// The oldest operation that has responses to send.
  [[nodiscard]] RemoteOperation* first_due() noexcept;

  /// Makes responses [next, end) of `operation` due, or none.
  void set_due(RemoteOperation& operation, uint32_t next, uint32_t end) noexcept;
  /// One response of `operation` has been sent.
  void sent_one(RemoteOperation& operation) noexcept;
  void cancel_all() noexcept;

 private:
  [[nodiscard]] RemoteOperation& at(uint32_t index) noexcept {
    return ring_[(begin_ + index) % capacity_];
  }

  std::unique_ptr<RemoteOperation[]> ring_;
  uint32_t allocated_ = 0;
  uint32_t capacity_ = 0;
  uint32_t begin_ = 0;
  uint32_t size_ = 0;
  uint32_t due_ = 0;  ///< operations that are due
};

}  // namespace flexins::transport
