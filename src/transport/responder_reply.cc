#include <algorithm>

#include "transport/packet_builder.h"
#include "transport/responder.h"

/// Answers, in the order of the requests.

namespace flexins::transport {

using memory::AccessResult;
using wire::Opcode;

namespace {

Opcode read_response_opcode(bool first, bool last) {
  if (first) return last ? Opcode::kRcReadResponseOnly : Opcode::kRcReadResponseFirst;
  return last ? Opcode::kRcReadResponseLast : Opcode::kRcReadResponseMiddle;
}

}  // namespace

bool Responder::next_packet(wire::TxPacket& out, base::TimeNs now) noexcept {
  if (core_.memory_deadline != base::kNever) return false;
  RemoteOperation* operation = operations_.first_due();
  const bool earlier = operation != nullptr && reply_ == Reply::kAck &&
                       distance(reply_psn_, operation->first_psn) < 0;
  if (operation != nullptr && !earlier) {
    if (operation->is_atomic) {
      reply_atomic(*operation, out);
      return true;
    }
    if (reply_read(*operation, out, now)) return true;
    if (core_.memory_deadline != base::kNever) return false;
  }
  if (reply_ == Reply::kNone) return false;
  reply_acknowledge(out);
  return true;
}

/// False when the memory does not answer at present, or may not be read any more: then the READ is
/// refused instead.
bool Responder::reply_read(RemoteOperation& operation, wire::TxPacket& out,
                           base::TimeNs now) noexcept {
  const uint64_t offset = uint64_t{operation.next} * core_.mtu_bytes;
  const auto length =
      static_cast<uint32_t>(std::min<uint64_t>(core_.mtu_bytes, operation.byte_end - offset));
  const base::Psn psn = operation.first_psn + operation.next;
  begin_packet(core_, out);
  if (length > 0) {
    const uint64_t address = operation.address + offset;
    memory::Region* region =
        remote(operation.key, base::kAccessRemoteRead, address, length, operation.pd);
    const AccessResult gathered =
        region == nullptr
            ? AccessResult::kFailed
            : gather_region(*region, address, length, out, core_.counters.payload_bytes_staged);
    if (gathered == AccessResult::kLater) {
      core_.await_memory(now);
      return false;
    }
    if (gathered == AccessResult::kFailed) {
      operations_.cancel_all();
      core_.raise(base::AsyncEvent::kQpAccessError);
      break_off(wire::kSyndromeNakRemoteAccess, psn);
      return false;
    }
  }
  wire::Headers headers;
  headers.bth.opcode =
      read_response_opcode(operation.next == 0, operation.next + 1 == operation.end);
  headers.bth.psn = psn;
  headers.aeth = {.syndrome = wire::kSyndromeAck, .msn = operation.msn};
  finish_packet(core_, headers, out);
  operations_.sent_one(operation);
  return true;
}

void Responder::reply_atomic(RemoteOperation& operation, wire::TxPacket& out) noexcept {
  begin_packet(core_, out);
  wire::Headers headers;
  headers.bth.opcode = Opcode::kRcAtomicAcknowledge;
  headers.bth.psn = operation.first_psn;
  headers.aeth = {.syndrome = wire::kSyndromeAck, .msn = operation.msn};
  headers.atomic_original = operation.address;
  finish_packet(core_, headers, out);
  operations_.sent_one(operation);
}

void Responder::reply_acknowledge(wire::TxPacket& out) noexcept {
  wire::Headers headers;
  headers.bth.opcode = Opcode::kRcAcknowledge;
  headers.bth.psn = expected_;
  headers.aeth.msn = msn_;
  switch (reply_) {
    case Reply::kRnr:
      headers.aeth.syndrome =
          static_cast<uint8_t>(wire::kSyndromeRnr | (core_.attributes.min_rnr_timer & 31));
      ++core_.counters.rnr_naks_sent;
      break;
    case Reply::kSequence:
      headers.aeth.syndrome = wire::kSyndromeNakSequence;
      ++core_.counters.naks_sent;
      break;
    case Reply::kFatal:
      headers.bth.psn = reply_psn_;
      headers.aeth.syndrome = syndrome_;
      ++core_.counters.naks_sent;
      break;
    default:
      headers.bth.psn = reply_psn_;
      headers.aeth = {.syndrome = wire::kSyndromeAck, .msn = reply_msn_};
      break;
  }
  reply_ = Reply::kNone;
  begin_packet(core_, out);
  finish_packet(core_, headers, out);
}

}  // namespace flexins::transport
