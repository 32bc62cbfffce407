#include <cstring>

#include "transport/packet_builder.h"
#include "transport/ud_qp.h"

/// The sending half of a datagram QP.

namespace flexins::transport {

using base::QpState;
using base::WcStatus;
using base::WrOpcode;
using memory::AccessResult;

namespace {

/// A work request's Q_Key with this bit stands for the QP's own (IBTA 10.2.5): only who may change
/// the QP may send with a controlled Q_Key.
constexpr uint32_t kOwnQkey = 1u << 31;

}  // namespace

bool UdQp::post_send(const SendWqe& wqe, base::TimeNs) noexcept {
  switch (core_.state) {
    case QpState::kReadyToSend:
    case QpState::kSendQueueDrained: break;
    case QpState::kSendQueueError:
    case QpState::kError: complete_flushed(wqe); return true;
    default: return false;
  }
  if (queue_.full()) return false;
  const uint32_t index = queue_.tail();
  queue_.push(wqe);
  SendEntry& entry = queue_.at(index);
  if (entry.error == WcStatus::kSuccess) entry.error = judge(wqe, entry);
  if (entry.error != WcStatus::kSuccess) return true;
  if (is_raw()) {
    destination(index) = {};
    destination(index).path.is_raw = true;
    return true;
  }
  // A copy: the address handle may be destroyed before the packet has left.
  const bool own = (wqe.remote_qkey & kOwnQkey) != 0;
  destination(index) = {wqe.target->path, wqe.remote_qpn & base::Psn::kMask,
                        own ? core_.attributes.qkey : wqe.remote_qkey};
  return true;
}

WcStatus UdQp::judge(const SendWqe& wqe, const SendEntry& entry) const noexcept {
  const bool is_send = wqe.opcode == WrOpcode::kSend || wqe.opcode == WrOpcode::kSendWithImmediate;
  if (is_raw()) {
    if (wqe.opcode != WrOpcode::kSend) return WcStatus::kLocalQpOperation;
    const bool fits = entry.length > 0 && entry.length <= core_.config.frame_bytes_max;
    return fits ? WcStatus::kSuccess : WcStatus::kLocalLength;
  }
  if (!is_send || wqe.target == nullptr) return WcStatus::kLocalQpOperation;
  return entry.length > wqe.target->mtu_bytes ? WcStatus::kLocalLength : WcStatus::kSuccess;
}

TxStatus UdQp::next_packet(wire::TxPacket& out, base::TimeNs now) noexcept {
  if (core_.state != QpState::kReadyToSend || cursor_ == queue_.tail() ||
      core_.memory_deadline != base::kNever) {
    return TxStatus::kIdle;
  }
  SendEntry& entry = queue_.at(cursor_);
  if (entry.error == WcStatus::kSuccess) {
    const AccessResult built = build(entry, out);
    if (built == AccessResult::kLater) {
      core_.await_memory(now);
      return TxStatus::kIdle;
    }
    if (built == AccessResult::kFailed) entry.error = WcStatus::kLocalProtection;
  }
  if (entry.error == WcStatus::kSuccess) {
    ++cursor_;
    return TxStatus::kPacket;
  }
  if (cursor_ == queue_.head()) fail_sends(entry.error);
  return TxStatus::kIdle;
}

/// kFailed also when the payload's keys grant nothing.
AccessResult UdQp::build(SendEntry& entry, wire::TxPacket& out) noexcept {
  begin_packet(core_, out);
  if ((entry.flags & base::kSendInline) != 0) {
    // Not referenced in place: a local port reads the payload when this queue may be gone.
    std::memcpy(out.staging, queue_.inline_bytes(cursor_), entry.length);
    if (entry.length > 0) out.pieces[out.piece_count++] = iovec{out.staging, entry.length};
    out.payload_length = entry.length;
    core_.counters.payload_bytes_staged += entry.length;
  } else {
    const auto sges = queue_.sges(cursor_);
    if (!sges_granted(domain(), sges, 0)) return AccessResult::kFailed;
    const AccessResult gathered =
        gather_sges(domain(), sges, 0, entry.length, out, core_.counters.payload_bytes_staged);
    if (gathered != AccessResult::kDone) return gathered;
  }
  const Destination& to = destination(cursor_);
  out.path = &to.path;
  out.header_length = 0;
  if (!is_raw()) build_headers(entry, to, out);
  ++core_.counters.packets_sent;
  core_.counters.payload_bytes_sent += out.payload_length;
  return AccessResult::kDone;
}

void UdQp::build_headers(const SendEntry& entry, const Destination& to,
                         wire::TxPacket& out) noexcept {
  wire::Headers headers;
  headers.bth.opcode = entry.opcode == WrOpcode::kSend ? wire::Opcode::kUdSendOnly
                                                       : wire::Opcode::kUdSendOnlyImmediate;
  headers.bth.solicited = (entry.flags & base::kSendSolicited) != 0;
  headers.bth.psn = next_psn_;
  headers.bth.destination = base::Qpn{to.qpn};
  headers.bth.pad_count = out.pad_count = static_cast<uint8_t>(-out.payload_length & 3);
  headers.deth = {.qkey = to.qkey, .source = core_.config.qpn};
  headers.immediate = entry.immediate;
  ++next_psn_;
  out.header_length = static_cast<uint16_t>(wire::emit(headers, out.header));
}

void UdQp::on_transmitted() noexcept {
  while (queue_.head() != cursor_) complete_head(WcStatus::kSuccess);
  settle_drain();
}

void UdQp::complete_head(WcStatus status) noexcept {
  const SendEntry& entry = queue_.at(queue_.head());
  const bool signalled = core_.config.signal_all || (entry.flags & base::kSendSignaled) != 0;
  ++sends_retired_;
  if (signalled || status != WcStatus::kSuccess) {
    core_.config.send_cq->complete(
        send_completion(core_.config, entry.wr_id, entry.opcode, status, sends_retired_));
  }
  queue_.pop();
}

void UdQp::complete_flushed(const SendWqe& wqe) noexcept {
  core_.config.send_cq->complete(
      send_completion(core_.config, wqe.wr_id, wqe.opcode, WcStatus::kWrFlush, ++sends_retired_));
}

}  // namespace flexins::transport
