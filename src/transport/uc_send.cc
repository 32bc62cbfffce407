#include <algorithm>
#include <cstring>

#include "transport/packet_builder.h"
#include "transport/request_opcode.h"
#include "transport/uc_qp.h"

/// The sending half of an unreliable connection.

namespace flexins::transport {

using base::QpState;
using base::WcStatus;
using base::WrOpcode;
using memory::AccessResult;

bool UcQp::post_send(const SendWqe& wqe, base::TimeNs) noexcept {
  switch (core_.state) {
    case QpState::kReadyToSend:
    case QpState::kSendQueueDrained: break;
    case QpState::kSendQueueError:
    case QpState::kError: complete_flushed(wqe); return true;
    default: return false;
  }
  if (queue_.full()) return false;
  queue_.push(wqe);
  return true;
}

WcStatus UcQp::validate(const SendEntry& entry) const noexcept {
  switch (entry.opcode) {
    case WrOpcode::kSend:
    case WrOpcode::kSendWithImmediate:
    case WrOpcode::kRdmaWrite:
    case WrOpcode::kRdmaWriteWithImmediate: break;
    default: return WcStatus::kLocalQpOperation;
  }
  return sges_granted(domain(), queue_.sges(cursor_), 0) ? WcStatus::kSuccess
                                                         : WcStatus::kLocalProtection;
}

TxStatus UcQp::next_packet(wire::TxPacket& out, base::TimeNs now) noexcept {
  const bool sends = core_.state == QpState::kReadyToSend ||
                     (core_.state == QpState::kSendQueueDrained && packets_sent_ > 0);
  if (!sends || core_.path == nullptr || cursor_ == queue_.tail() ||
      core_.memory_deadline != base::kNever) {
    return TxStatus::kIdle;
  }
  SendEntry& entry = queue_.at(cursor_);
  if (packets_sent_ == 0 && entry.error == WcStatus::kSuccess) entry.error = validate(entry);
  if (entry.error == WcStatus::kSuccess) {
    const AccessResult built = build(entry, out);
    if (built == AccessResult::kLater) {
      core_.await_memory(now);
      return TxStatus::kIdle;
    }
    if (built == AccessResult::kFailed) entry.error = WcStatus::kLocalProtection;
  }
  if (entry.error == WcStatus::kSuccess) return TxStatus::kPacket;
  if (cursor_ == queue_.head()) {
    core_.state = QpState::kSendQueueError;
    draining_ = false;
    complete_head(entry.error);
    flush_sends();
  }
  return TxStatus::kIdle;
}

/// The next packet of the request at the cursor.
AccessResult UcQp::build(const SendEntry& entry, wire::TxPacket& out) noexcept {
  const uint64_t offset = uint64_t{packets_sent_} * core_.mtu_bytes;
  const auto length =
      static_cast<uint32_t>(std::min<uint64_t>(entry.length - offset, core_.mtu_bytes));
  begin_packet(core_, out);
  if (length > 0 && (entry.flags & base::kSendInline) != 0) {
    // Not referenced in place: a local port reads the payload when this queue may be gone.
    std::memcpy(out.staging, queue_.inline_bytes(cursor_) + offset, length);
    out.pieces[0] = iovec{out.staging, length};
    out.piece_count = 1;
    out.payload_length = length;
    core_.counters.payload_bytes_staged += length;
  } else if (length > 0) {
    const AccessResult gathered = gather_sges(domain(), queue_.sges(cursor_), offset, length, out,
                                              core_.counters.payload_bytes_staged);
    if (gathered != AccessResult::kDone) return gathered;
  }
  const bool first = packets_sent_ == 0;
  const bool last = offset + length == entry.length;
  wire::Headers headers;
  headers.bth.opcode = request_opcode(entry.opcode, first, last);
  headers.bth.solicited = last && (entry.flags & base::kSendSolicited) != 0;
  headers.bth.psn = next_psn_;
  headers.reth = {.address = entry.remote_address, .key = entry.remote_key, .length = entry.length};
  headers.immediate = entry.immediate;
  finish_packet(core_, headers, out);
  ++next_psn_;
  ++packets_sent_;
  if (last) {
    packets_sent_ = 0;
    ++cursor_;
  }
  return AccessResult::kDone;
}

void UcQp::on_transmitted() noexcept {
  while (queue_.head() != cursor_) complete_head(WcStatus::kSuccess);
  settle_drain();
}

void UcQp::complete_head(WcStatus status) noexcept {
  const SendEntry& entry = queue_.at(queue_.head());
  const bool signalled = core_.config.signal_all || (entry.flags & base::kSendSignaled) != 0;
  ++sends_retired_;
  if (signalled || status != WcStatus::kSuccess) {
    core_.config.send_cq->complete(
        send_completion(core_.config, entry.wr_id, entry.opcode, status, sends_retired_));
  }
  queue_.pop();
}

void UcQp::complete_flushed(const SendWqe& wqe) noexcept {
  core_.config.send_cq->complete(
      send_completion(core_.config, wqe.wr_id, wqe.opcode, WcStatus::kWrFlush, ++sends_retired_));
}

void UcQp::flush_sends() noexcept {
  while (!queue_.empty()) complete_head(WcStatus::kWrFlush);
  cursor_ = queue_.head();
  packets_sent_ = 0;
}

}  // namespace flexins::transport
