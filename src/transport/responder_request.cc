#include <algorithm>

#include "transport/request_opcode.h"
#include "transport/responder.h"

/// Sequence, framing and dispatch of requests.

namespace flexins::transport {

using base::Psn;
using wire::Opcode;

namespace {

enum class Kind : uint8_t { kSend, kWrite, kRead, kAtomic, kAtomicWrite, kUnsupported };

Kind kind_of(Opcode opcode) {
  switch (opcode) {
    case Opcode::kRcSendFirst:
    case Opcode::kRcSendMiddle:
    case Opcode::kRcSendLast:
    case Opcode::kRcSendLastImmediate:
    case Opcode::kRcSendOnly:
    case Opcode::kRcSendOnlyImmediate:
    case Opcode::kRcSendLastInvalidate:
    case Opcode::kRcSendOnlyInvalidate: return Kind::kSend;
    case Opcode::kRcWriteFirst:
    case Opcode::kRcWriteMiddle:
    case Opcode::kRcWriteLast:
    case Opcode::kRcWriteLastImmediate:
    case Opcode::kRcWriteOnly:
    case Opcode::kRcWriteOnlyImmediate: return Kind::kWrite;
    case Opcode::kRcReadRequest: return Kind::kRead;
    case Opcode::kRcCompareSwap:
    case Opcode::kRcFetchAdd: return Kind::kAtomic;
    case Opcode::kRcAtomicWrite: return Kind::kAtomicWrite;
    default: return Kind::kUnsupported;
  }
}

}  // namespace

void Responder::on_request(const wire::Headers& headers, std::span<const iovec> payload,
                           uint32_t payload_length) noexcept {
  const Opcode opcode = headers.bth.opcode;
  const Request request{headers, payload, payload_length, starts_message(opcode),
                        ends_message(opcode)};
  const int32_t ahead = distance(headers.bth.psn, expected_);
  if (ahead > 0) {
    out_of_sequence(headers.bth.psn);
  } else if (ahead < 0) {
    on_duplicate(request);
  } else {
    execute(request);
  }
}

void Responder::execute(const Request& request) noexcept {
  if (!choose_queue(request.headers)) {
    return refuse(wire::kSyndromeNakInvalidRequest, base::WcStatus::kRemoteInvalidRequest);
  }
  switch (kind_of(request.headers.bth.opcode)) {
    case Kind::kSend: return on_send(request);
    case Kind::kWrite: return on_write(request);
    case Kind::kRead: return on_read(request);
    case Kind::kAtomic: return on_atomic(request);
    case Kind::kAtomicWrite: return on_atomic_write(request);
    case Kind::kUnsupported:
      return refuse(wire::kSyndromeNakInvalidRequest, base::WcStatus::kRemoteInvalidRequest);
  }
}

/// A message is FIRST, MIDDLE…, LAST of one kind, or ONLY; all but its last packet are full.
bool Responder::well_framed(const Request& request, Message kind) const noexcept {
  if (message_ != (request.first ? Message::kNone : kind)) return false;
  if (!request.last) return request.length == core_.mtu_bytes;
  return request.length <= core_.mtu_bytes && (request.first || request.length > 0);
}

/// One NAK for a gap, however many packets show it. It names what is expected when it is sent.
void Responder::out_of_sequence(Psn psn) noexcept {
  ++core_.counters.out_of_sequence_received;
  if (!gap_reported_) {
    gap_reported_ = true;
    gap_end_ = psn;
    reply_ = Reply::kSequence;
  } else if (distance(psn, gap_end_) > 0) {
    gap_end_ = psn;
  }
}

/// `answered`: the request has an answer of its own that acknowledges it.
void Responder::accept(const Request& request, uint32_t packets, bool answered) noexcept {
  expected_ = expected_ + packets;
  if (request.last) msn_ = (msn_ + 1) & Psn::kMask;
  core_.counters.payload_bytes_received += request.length;
  // The NAK that is still to be sent will ask for the rest of the gap.
  if (reply_ == Reply::kSequence && distance(gap_end_, expected_) >= 0) return;
  const bool overtaken = reply_ == Reply::kSequence || reply_ == Reply::kRnr;
  if (overtaken) reply_ = Reply::kNone;
  gap_reported_ = false;
  if (!answered && (request.headers.bth.ack_request || overtaken)) acknowledge();
}

/// Acknowledges all that has been received in sequence.
void Responder::acknowledge() noexcept {
  if (reply_ != Reply::kNone && reply_ != Reply::kAck) return;
  reply_ = Reply::kAck;
  reply_psn_ = expected_ - 1;
  reply_msn_ = msn_;
}

memory::Region* Responder::remote(uint32_t key, uint32_t access, uint64_t address, uint64_t length,
                                  base::PdId pd) const noexcept {
  return core_.config.regions
      ->check(base::MemoryKey{key}, pd, access, address, length, core_.config.qpn)
      .region;
}

}  // namespace flexins::transport
