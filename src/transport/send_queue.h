#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/verbs_types.h"
#include "transport/qp.h"

namespace flexins::transport {

/// A send work request in the private send queue.
struct SendEntry {
  uint64_t wr_id = 0;
  uint64_t remote_address = 0;
  uint64_t compare_add = 0;
  uint64_t swap = 0;
  uint64_t first_psn = 0;  ///< extended PSN; valid once the request has been started
  uint32_t packets = 0;    ///< PSNs it takes; valid once started
  uint32_t length = 0;     ///< payload bytes
  uint32_t remote_key = 0;
  uint32_t remote_srqn = 0;  ///< XRC
  uint32_t immediate = 0;
  base::WrOpcode opcode = base::WrOpcode::kSend;
  uint8_t flags = 0;
  uint8_t sge_count = 0;
  /// kSuccess, or why this request fails when its turn comes.
  base::WcStatus error = base::WcStatus::kSuccess;

  [[nodiscard]] bool is_read() const { return opcode == base::WrOpcode::kRdmaRead; }
  [[nodiscard]] bool is_atomic() const {
    return opcode == base::WrOpcode::kCompareSwap || opcode == base::WrOpcode::kFetchAdd;
  }
  [[nodiscard]] bool is_atomic_write() const { return opcode == base::WrOpcode::kAtomicWrite; }
  /// Sends no packet: done when its turn comes.
  [[nodiscard]] bool is_local() const {
    return opcode == base::WrOpcode::kLocalInvalidate || opcode == base::WrOpcode::kBindMw;
  }
  /// READ and atomics: the answer carries data, an ACK does not complete them.
  [[nodiscard]] bool wants_response() const {
    return is_read() || is_atomic() || is_atomic_write();
  }
  [[nodiscard]] uint64_t end_psn() const { return first_psn + packets; }
};

/// The private send queue: a ring of max_send_wr entries with room for each one's SGEs or inline
/// bytes. Indexes run freely modulo 2^32; head is the oldest not yet completed, tail the next free.
class SendQueue {
 public:
  /// False when memory is short.
  [[nodiscard]] bool allocate(const QpConfig& config);

  [[nodiscard]] uint32_t head() const { return head_; }
  [[nodiscard]] uint32_t tail() const { return tail_; }
  [[nodiscard]] uint32_t size() const { return tail_ - head_; }
  [[nodiscard]] bool full() const { return size() >= capacity_; }
  [[nodiscard]] bool empty() const { return head_ == tail_; }

  /// Copies a request to the tail and judges what can be judged without touching memory. The queue
  /// is not full.
  void push(const SendWqe& wqe) noexcept;
  void pop() noexcept { ++head_; }
  void clear() noexcept { head_ = tail_; }

  [[nodiscard]] SendEntry& at(uint32_t index) noexcept { return entries_[index & mask_]; }
  [[nodiscard]] const SendEntry& at(uint32_t index) const noexcept {
    return entries_[index & mask_];
  }
  [[nodiscard]] std::span<const base::Sge> sges(uint32_t index) const noexcept;
  [[nodiscard]] const std::byte* inline_bytes(uint32_t index) const noexcept { return data(index); }

 private:
  [[nodiscard]] std::byte* data(uint32_t index) const noexcept {
    return data_.get() + size_t{index & mask_} * stride_;
  }
  [[nodiscard]] base::WcStatus judge(const SendWqe& wqe, uint64_t length) const noexcept;

  std::unique_ptr<SendEntry[]> entries_;
  std::unique_ptr<std::byte[]> data_;
  uint32_t mask_ = 0;
  uint32_t capacity_ = 0;
  uint32_t stride_ = 0;
  uint32_t max_sge_ = 0;
  uint32_t max_inline_ = 0;
  uint32_t head_ = 0;
  uint32_t tail_ = 0;
};

/// The completion opcode of a send work request.
[[nodiscard]] base::WcOpcode completion_opcode(base::WrOpcode opcode) noexcept;

/// The completion of a send work request of the QP. `retired`: Completion::retired.
[[nodiscard]] Completion send_completion(const QpConfig& config, uint64_t wr_id,
                                         base::WrOpcode opcode, base::WcStatus status,
                                         uint32_t retired) noexcept;

}  // namespace flexins::transport
