#include "transport/rc_qp.h"

#include <algorithm>

#include "transport/request_opcode.h"

namespace flexins::transport {

using base::QpState;
using wire::Opcode;

namespace {

/// The default partition; full membership (0xffff) or limited (0x7fff).
constexpr uint16_t kDefaultPartition = 0x7fff;

bool is_response(Opcode opcode) {
  const Opcode operation = operation_of(opcode);
  return operation >= Opcode::kRcReadResponseFirst && operation <= Opcode::kRcAtomicAcknowledge;
}

bool receives_requests(QpState state) {
  return state == QpState::kReadyToReceive || state == QpState::kReadyToSend ||
         state == QpState::kSendQueueDrained;
}

}  // namespace

RcQp::RcQp(const QpConfig& config) : requester_(core_), responder_(core_) {
  core_.config = config;
  if (base::is_xrc(config.type)) core_.transport = wire::TransportClass::kExtendedReliable;
  responder_.serve({config.receives, config.receive_cq, config.pd});
}

void RcQp::set_path(const wire::Path* path, PeerWindow* peer) noexcept {
  core_.path = path;
  requester_.change_peer(peer);
}

bool RcQp::post_send(const SendWqe& wqe, base::TimeNs) noexcept {
  if (!sends()) return false;
  switch (core_.state) {
    case QpState::kReadyToSend:
    case QpState::kSendQueueDrained:
      if (requester_.full()) return false;
      requester_.post(wqe);
      return true;
    case QpState::kError: requester_.complete_flushed(wqe); return true;
    default: return false;
  }
}

void RcQp::flush_receives() noexcept {
  if (core_.state == QpState::kError && !core_.config.shared_receives) responder_.flush_posted();
}

bool RcQp::from_peer(const wire::Headers& headers, const wire::IpAddress& source) const noexcept {
  return receives_requests(core_.state) && source == core_.path->destination &&
         transport_class(headers.bth.opcode) == core_.transport &&
         (headers.bth.pkey & kDefaultPartition) == kDefaultPartition;
}

bool RcQp::acceptable(const wire::Headers& headers, const wire::IpAddress& source) const noexcept {
  if (!from_peer(headers, source)) return false;
  if (!is_response(headers.bth.opcode)) return receives();
  return sends() && core_.state != QpState::kReadyToReceive;
}

void RcQp::on_packet(const wire::Headers& headers, std::span<const iovec> payload,
                     uint32_t payload_length, const wire::IpAddress& source, bool,
                     base::TimeNs now) noexcept {
  ++core_.counters.packets_received;
  if (!acceptable(headers, source)) {
    ++core_.counters.dropped_received;
    return;
  }
  if (core_.transport == wire::TransportClass::kReliable) {
    dispatch(headers, payload, payload_length, now);
  } else {
    // Both halves know the operations by the names that reliable connections have for them.
    wire::Headers renamed = headers;
    renamed.bth.opcode = operation_of(headers.bth.opcode);
    dispatch(renamed, payload, payload_length, now);
  }
  settle();
}

void RcQp::dispatch(const wire::Headers& headers, std::span<const iovec> payload,
                    uint32_t payload_length, base::TimeNs now) noexcept {
  if (is_response(headers.bth.opcode)) {
    requester_.on_response(headers, payload, payload_length, now);
  } else {
    if (!established_ && core_.state == QpState::kReadyToReceive) {
      core_.raise(base::AsyncEvent::kCommunicationEstablished);
    }
    established_ = true;
    responder_.on_request(headers, payload, payload_length);
  }
}

TxStatus RcQp::next_packet(wire::TxPacket& out, base::TimeNs now) noexcept {
  if (core_.path == nullptr) return TxStatus::kIdle;
  // In kError too: the peer is still to be told why.
  TxStatus status = TxStatus::kPacket;
  if (!responder_.next_packet(out, now)) status = requester_.next_packet(out, now);
  settle();
  return status;
}

void RcQp::on_deadline(base::TimeNs now) noexcept {
  requester_.on_deadline(now);
  settle();
}

std::optional<Tombstone> RcQp::tombstone() const {
  if (core_.path == nullptr || !receives() || !receives_requests(core_.state)) return std::nullopt;
  return Tombstone{*core_.path, core_.transport, base::Qpn{core_.attributes.destination_qpn},
                   responder_.expected(), responder_.msn()};
}

void RcQp::settle() noexcept {
  if (core_.failed) enter_error();
  if (draining_ && requester_.drained()) {
    draining_ = false;
    if (drain_notify_ && core_.state == QpState::kSendQueueDrained) {
      core_.raise(base::AsyncEvent::kSqDrained);
    }
  }
}

void RcQp::enter_error() noexcept {
  core_.failed = false;
  if (core_.state == QpState::kError) return;
  core_.state = QpState::kError;
  draining_ = false;
  requester_.flush();
  responder_.flush();
}

}  // namespace flexins::transport
