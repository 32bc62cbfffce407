#include <algorithm>

#include "transport/request_opcode.h"
#include "transport/uc_qp.h"

/// The receiving half of an unreliable connection.

namespace flexins::transport {

using base::QpState;
using base::WcStatus;
using memory::AccessResult;
using wire::Opcode;

namespace {

/// The default partition; full membership (0xffff) or limited (0x7fff).
constexpr uint16_t kDefaultPartition = 0x7fff;

bool receives(QpState state) {
  return state >= QpState::kReadyToReceive && state <= QpState::kSendQueueError;
}

bool is_write(Opcode operation) {
  return operation >= Opcode::kRcWriteFirst && operation <= Opcode::kRcWriteOnlyImmediate;
}

bool has_immediate(const wire::Headers& headers) {
  return (wire::header_set(headers.bth.opcode) & wire::kHasImmediate) != 0;
}

}  // namespace

void UcQp::flush_receives() noexcept {
  if (core_.state != QpState::kError || core_.config.shared_receives) return;
  while (core_.config.receives->take(receive_)) complete_receive(WcStatus::kWrFlush, nullptr);
}

void UcQp::on_packet(const wire::Headers& headers, std::span<const iovec> payload,
                     uint32_t payload_length, const wire::IpAddress& source, bool,
                     base::TimeNs) noexcept {
  ++core_.counters.packets_received;
  if (!receives(core_.state) || source != core_.path->destination ||
      transport_class(headers.bth.opcode) != core_.transport ||
      (headers.bth.pkey & kDefaultPartition) != kDefaultPartition) {
    ++core_.counters.dropped_received;
    return;
  }
  if (!established_ && core_.state == QpState::kReadyToReceive) {
    core_.raise(base::AsyncEvent::kCommunicationEstablished);
  }
  established_ = true;
  const Opcode operation = operation_of(headers.bth.opcode);
  const Arrival arrival{headers, payload, payload_length, starts_message(operation),
                        ends_message(operation)};
  // Something is missing: what was arriving is over. The beginning of a message is as good as any.
  if (headers.bth.psn != expected_) {
    ++core_.counters.out_of_sequence_received;
    drop_message();
  }
  expected_ = headers.bth.psn + 1;
  const bool fits = arrival.last
                        ? arrival.length <= core_.mtu_bytes && (arrival.first || arrival.length > 0)
                        : arrival.length == core_.mtu_bytes;
  const Message kind = is_write(operation) ? Message::kWrite : Message::kSend;
  if (!fits || (!arrival.first && message_ != kind)) {
    ++core_.counters.dropped_received;
    return drop_message();
  }
  if (kind == Message::kWrite) {
    receive_write(arrival);
  } else {
    receive_send(arrival);
  }
  if (core_.failed) {
    core_.failed = false;
    enter_error();
  }
}

/// A receive that a dropped message had begun to fill serves the next one (IBTA 9.8.2.2).
void UcQp::drop_message() noexcept { message_ = Message::kNone; }

bool UcQp::hold_receive() noexcept {
  if (holds_receive_) return true;
  if (!core_.config.receives->take(receive_)) {
    ++core_.counters.dropped_received;
    drop_message();
    return false;
  }
  receive_.sge_count = std::min(receive_.sge_count, base::Limits::kMaxSge);
  holds_receive_ = true;
  return true;
}

void UcQp::receive_send(const Arrival& arrival) noexcept {
  if (arrival.first) {
    if (!hold_receive()) return;
    received_bytes_ = 0;
    receive_length_ = std::min<uint64_t>(sges_length({receive_.sge.data(), receive_.sge_count}),
                                         base::Limits::kMaxMessageBytes);
  }
  WcStatus status = WcStatus::kSuccess;
  if (received_bytes_ + arrival.length > receive_length_) {
    status = WcStatus::kLocalLength;
  } else {
    switch (place_sges(domain(), {receive_.sge.data(), receive_.sge_count}, received_bytes_,
                       arrival.payload, arrival.length)) {
      case AccessResult::kDone: break;
      case AccessResult::kLater: ++core_.counters.dropped_received; return drop_message();
      case AccessResult::kFailed: status = WcStatus::kLocalProtection;
    }
  }
  if (status != WcStatus::kSuccess) {
    complete_receive(status, nullptr);
    core_.failed = true;
    return;
  }
  received_bytes_ += arrival.length;
  core_.counters.payload_bytes_received += arrival.length;
  message_ = arrival.last ? Message::kNone : Message::kSend;
  if (arrival.last) complete_receive(WcStatus::kSuccess, &arrival);
}

/// A WRITE that is not allowed is dropped: nobody is to be told (IBTA 9.9.3, class D).
void UcQp::receive_write(const Arrival& arrival) noexcept {
  bool allowed = !arrival.first || begin_write(arrival);
  const uint64_t missing = write_length_ - received_bytes_;
  allowed = allowed && (arrival.last ? arrival.length == missing : arrival.length < missing);
  if (!allowed) {
    ++core_.counters.dropped_received;
    return drop_message();
  }
  const bool immediate = has_immediate(arrival.headers);
  if (immediate && !hold_receive()) return;
  if (arrival.length > 0) {
    const uint64_t address = write_address_ + received_bytes_;
    memory::Region* region = target(address, arrival.length);
    if (region == nullptr || memory::place(*region, address, arrival.payload, 0, arrival.length) !=
                                 AccessResult::kDone) {
      ++core_.counters.dropped_received;
      return drop_message();
    }
  }
  received_bytes_ += arrival.length;
  core_.counters.payload_bytes_received += arrival.length;
  message_ = arrival.last ? Message::kNone : Message::kWrite;
  if (immediate) complete_receive(WcStatus::kSuccess, &arrival);
}

bool UcQp::begin_write(const Arrival& arrival) noexcept {
  const wire::Reth& reth = arrival.headers.reth;
  write_address_ = reth.address;
  write_length_ = reth.length;
  write_key_ = reth.key;
  received_bytes_ = 0;
  if ((core_.attributes.access_flags & base::kAccessRemoteWrite) == 0 ||
      reth.length > base::Limits::kMaxMessageBytes) {
    return false;
  }
  // No byte, no key.
  return reth.length == 0 || target(reth.address, reth.length) != nullptr;
}

memory::Region* UcQp::target(uint64_t address, uint64_t length) const noexcept {
  return core_.config.regions
      ->check(base::MemoryKey{write_key_}, core_.config.pd, base::kAccessRemoteWrite, address,
              length, core_.config.qpn)
      .region;
}

void UcQp::complete_receive(WcStatus status, const Arrival* arrival) noexcept {
  holds_receive_ = false;
  Completion completion;
  completion.wr_id = receive_.wr_id;
  completion.status = status;
  completion.opcode = base::WcOpcode::kReceive;
  completion.qpn = core_.config.qpn;
  completion.source_qpn = base::Qpn{core_.attributes.destination_qpn};
  completion.retired = ++receives_retired_;
  completion.solicited = status != WcStatus::kSuccess;
  if (arrival != nullptr) {
    completion.byte_length = static_cast<uint32_t>(received_bytes_);
    completion.solicited = arrival->headers.bth.solicited;
    if (is_write(operation_of(arrival->headers.bth.opcode))) {
      completion.opcode = base::WcOpcode::kReceiveRdmaWithImmediate;
    }
    if (has_immediate(arrival->headers)) {
      completion.wc_flags = base::kWcWithImmediate;
      completion.immediate = arrival->headers.immediate;
    }
  }
  core_.config.receive_cq->complete(completion);
}

}  // namespace flexins::transport
