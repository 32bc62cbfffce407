#include "transport/tombstone.h"

namespace flexins::transport {

using wire::Opcode;

namespace {

/// Requests whose only answer is an acknowledgement.
bool is_send_or_write(Opcode opcode) {
  return opcode <= Opcode::kRcWriteOnlyImmediate || opcode == Opcode::kRcSendLastInvalidate ||
         opcode == Opcode::kRcSendOnlyInvalidate;
}

}  // namespace

bool answer_repetition(const Tombstone& tombstone, const wire::Headers& headers,
                       const wire::IpAddress& source, wire::TxPacket& out) noexcept {
  if (!is_send_or_write(headers.bth.opcode) || source != tombstone.path.destination ||
      distance(headers.bth.psn, tombstone.expected) >= 0) {
    return false;
  }
  wire::Headers answer;
  answer.bth.opcode = Opcode::kRcAcknowledge;
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
