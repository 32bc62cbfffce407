#include "transport/send_queue.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

namespace flexins::transport {

using base::WcStatus;
using base::WrOpcode;

bool SendQueue::allocate(const QpConfig& config) {
  capacity_ = std::max(config.max_send_wr, 1u);
  max_sge_ = config.max_send_sge;
  // An atomic write brings its word along, whatever was asked for.
  max_inline_ = std::max(config.max_inline_bytes, 8u);
  const uint32_t slots = std::bit_ceil(capacity_);
  mask_ = slots - 1;
  stride_ = std::max<uint32_t>(max_sge_ * sizeof(base::Sge), (max_inline_ + 15) & ~15u);
  entries_.reset(new (std::nothrow) SendEntry[slots]);
  // Left as it comes: pages that no request has used yet cost nothing.
  data_.reset(new (std::nothrow) std::byte[size_t{slots} * stride_]);
  return entries_ != nullptr && data_ != nullptr;
}

std::span<const base::Sge> SendQueue::sges(uint32_t index) const noexcept {
  return {reinterpret_cast<const base::Sge*>(static_cast<const void*>(data(index))),
          entries_[index & mask_].sge_count};
}

WcStatus SendQueue::judge(const SendWqe& wqe, uint64_t length) const noexcept {
  const bool is_inline = (wqe.flags & base::kSendInline) != 0;
  if (is_inline ? wqe.inline_length > max_inline_ : wqe.sge_count > max_sge_) {
    return is_inline ? WcStatus::kLocalLength : WcStatus::kLocalQpOperation;
  }
  switch (wqe.opcode) {
    case WrOpcode::kRdmaWrite:
    case WrOpcode::kRdmaWriteWithImmediate:
    case WrOpcode::kSend:
    case WrOpcode::kSendWithImmediate:
    case WrOpcode::kSendWithInvalidate: break;
    case WrOpcode::kLocalInvalidate:
    case WrOpcode::kBindMw:
      if (is_inline || length != 0) return WcStatus::kLocalQpOperation;
      break;
    case WrOpcode::kAtomicWrite:
      if (length != 8) return WcStatus::kLocalLength;
      break;
    case WrOpcode::kRdmaRead:
      if (is_inline) return WcStatus::kLocalQpOperation;
      break;
    case WrOpcode::kCompareSwap:
    case WrOpcode::kFetchAdd:
      if (is_inline) return WcStatus::kLocalQpOperation;
      if (length != 8) return WcStatus::kLocalLength;
      break;
    default: return WcStatus::kLocalQpOperation;
  }
  return length > base::Limits::kMaxMessageBytes ? WcStatus::kLocalLength : WcStatus::kSuccess;
}

void SendQueue::push(const SendWqe& wqe) noexcept {
  const bool is_inline = (wqe.flags & base::kSendInline) != 0;
  uint64_t length = 0;
  if (is_inline) {
    length = wqe.inline_length;
  } else if (wqe.sge_count <= max_sge_) {
    for (uint32_t i = 0; i < wqe.sge_count; ++i) length += wqe.sge[i].length;
  }
  SendEntry& entry = at(tail_);
  entry = SendEntry{};
  entry.wr_id = wqe.wr_id;
  entry.remote_address = wqe.remote_address;
  entry.remote_key = wqe.remote_key;
  entry.remote_srqn = wqe.remote_srqn;
  entry.compare_add = wqe.compare_add;
  entry.swap = wqe.swap;
  entry.immediate = wqe.immediate;
  entry.opcode = wqe.opcode;
  entry.flags = wqe.flags;
  entry.error = judge(wqe, length);
  if (entry.error == WcStatus::kSuccess) {
    entry.length = static_cast<uint32_t>(length);
    if (is_inline) {
      if (length > 0) std::memcpy(data(tail_), wqe.inline_data, length);
    } else {
      entry.sge_count = wqe.sge_count;
      if (wqe.sge_count > 0) std::memcpy(data(tail_), wqe.sge, wqe.sge_count * sizeof(base::Sge));
    }
  }
  ++tail_;
}

base::WcOpcode completion_opcode(WrOpcode opcode) noexcept {
  switch (opcode) {
    case WrOpcode::kRdmaWrite:
    case WrOpcode::kRdmaWriteWithImmediate: return base::WcOpcode::kRdmaWrite;
    case WrOpcode::kRdmaRead: return base::WcOpcode::kRdmaRead;
    case WrOpcode::kCompareSwap: return base::WcOpcode::kCompareSwap;
    case WrOpcode::kFetchAdd: return base::WcOpcode::kFetchAdd;
    case WrOpcode::kLocalInvalidate: return base::WcOpcode::kLocalInvalidate;
    case WrOpcode::kBindMw: return base::WcOpcode::kBindMw;
    case WrOpcode::kAtomicWrite: return base::WcOpcode::kAtomicWrite;
    default: return base::WcOpcode::kSend;
  }
}

Completion send_completion(const QpConfig& config, uint64_t wr_id, WrOpcode opcode, WcStatus status,
                           uint32_t retired) noexcept {
  Completion completion;
  completion.wr_id = wr_id;
  completion.status = status;
  completion.opcode = completion_opcode(opcode);
  completion.qpn = config.qpn;
  completion.retired = retired;
  completion.is_send = true;
  completion.solicited = status != WcStatus::kSuccess;
  return completion;
}

}  // namespace flexins::transport
