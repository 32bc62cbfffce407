#include <algorithm>

#include "transport/ud_qp.h"

/// The receiving half of a datagram QP.

namespace flexins::transport {

using base::QpState;
using base::WcStatus;
using memory::AccessResult;

namespace {

bool receives_packets(QpState state) {
  return state == QpState::kReadyToReceive || state == QpState::kReadyToSend ||
         state == QpState::kSendQueueDrained || state == QpState::kSendQueueError;
}

}  // namespace

void UdQp::on_packet(const wire::Headers& headers, std::span<const iovec> payload,
                     uint32_t payload_length, const wire::IpAddress& source, bool,
                     base::TimeNs) noexcept {
  ++core_.counters.packets_received;
  const bool expected =
      is_raw() || transport_class(headers.bth.opcode) == wire::TransportClass::kDatagram;
  if (!receives_packets(core_.state) || !expected) {
    ++core_.counters.dropped_received;
    return;
  }
  if (!is_raw() && headers.deth.qkey != core_.attributes.qkey) {
    ++core_.counters.qkey_violations;
    return;
  }
  if (!holds_receive_ && !core_.config.receives->take(receive_)) {
    ++core_.counters.no_receive_drops;
    return;
  }
  holds_receive_ = false;
  receive(headers, payload, payload_length, source);
}

void UdQp::receive(const wire::Headers& headers, std::span<const iovec> payload, uint32_t length,
                   const wire::IpAddress& source) noexcept {
  receive_.sge_count = std::min(receive_.sge_count, base::Limits::kMaxSge);
  const std::span<const base::Sge> sges(receive_.sge.data(), receive_.sge_count);
  WcStatus failure = WcStatus::kSuccess;
  if (length > sges_length(sges)) {
    failure = WcStatus::kLocalLength;
  } else {
    switch (place_sges(domain(), sges, 0, payload, length)) {
      case AccessResult::kDone: break;
      case AccessResult::kLater:
        // The datagram is lost; its receive serves the next one.
        ++core_.counters.dropped_received;
        holds_receive_ = true;
        return;
      case AccessResult::kFailed: failure = WcStatus::kLocalProtection;
    }
  }
  if (failure != WcStatus::kSuccess) {
    complete_receive(receive_.wr_id, failure);
    enter_error();
    if (is_queue()) core_.raise(base::AsyncEvent::kWqFatal);
    return;
  }
  core_.counters.payload_bytes_received += length;
  Completion completion;
  completion.wr_id = receive_.wr_id;
  completion.opcode = base::WcOpcode::kReceive;
  completion.byte_length = length;
  completion.qpn = core_.config.qpn;
  completion.retired = ++receives_retired_;
  if (is_raw()) {
    core_.config.receive_cq->complete(completion);
    return;
  }
  completion.wc_flags = base::kWcGrh;
  completion.service_level = source.is_v4() ? base::kPacketKindIpv4 : base::kPacketKindIpv6;
  completion.source_qpn = headers.deth.source;
  completion.solicited = headers.bth.solicited;
  if (headers.bth.opcode == wire::Opcode::kUdSendOnlyImmediate) {
    completion.wc_flags |= base::kWcWithImmediate;
    completion.immediate = headers.immediate;
  }
  core_.config.receive_cq->complete(completion);
}

void UdQp::complete_receive(uint64_t wr_id, WcStatus status) noexcept {
  Completion completion;
  completion.wr_id = wr_id;
  completion.status = status;
  completion.opcode = base::WcOpcode::kReceive;
  completion.qpn = core_.config.qpn;
  completion.retired = ++receives_retired_;
  completion.solicited = true;
  core_.config.receive_cq->complete(completion);
}

void UdQp::flush_receives() noexcept {
  if (core_.state != QpState::kError) return;
  if (holds_receive_) complete_receive(receive_.wr_id, WcStatus::kWrFlush);
  holds_receive_ = false;
  if (core_.config.shared_receives) return;
  while (core_.config.receives->take(receive_)) {
    complete_receive(receive_.wr_id, WcStatus::kWrFlush);
  }
}

}  // namespace flexins::transport
