#include "transport/tombstone.h"

#include "transport/request_opcode.h"

namespace flexins::transport {

using wire::Opcode;

namespace {

/// Requests whose only answer is an acknowledgement.
bool is_send_or_write(Opcode operation) {
  return operation <= Opcode::kRcWriteOnlyImmediate || operation == Opcode::kRcSendLastInvalidate ||
         operation == Opcode::kRcSendOnlyInvalidate;
}

}  // namespace

bool answer_repetition(const Tombstone& tombstone, const wire::Headers& headers,
                       const wire::IpAddress& source, wire::TxPacket& out) noexcept {
  if (transport_class(headers.bth.opcode) != tombstone.transport ||
      !is_send_or_write(operation_of(headers.bth.opcode)) || source != tombstone.path.destination ||
      distance(headers.bth.psn, tombstone.expected) >= 0) {
    return false;
  }
  wire::Headers answer;
  answer.bth.opcode = in_class(tombstone.transport, Opcode::kRcAcknowledge);
  answer.bth.destination = tombstone.peer_qpn;
  answer.bth.psn = tombstone.expected - 1;
  answer.aeth.syndrome = wire::kSyndromeAck;
  answer.aeth.msn = tombstone.msn;
  out.path = &tombstone.path;
  out.piece_count = 0;
  out.payload_length = 0;
  out.pad_count = 0;
  out.corrupt = false;
  out.header_length = static_cast<uint16_t>(wire::emit(answer, out.header));
  return true;
}

}  // namespace flexins::transport
