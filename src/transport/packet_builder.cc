#include "transport/packet_builder.h"

#include "transport/request_opcode.h"

namespace flexins::transport {

void begin_packet(const QpCore& core, wire::TxPacket& out) noexcept {
  out.path = core.path;
  out.piece_count = 0;
  out.payload_length = 0;
  out.pad_count = 0;
  out.corrupt = false;
}

void finish_packet(QpCore& core, wire::Headers& headers, wire::TxPacket& out) noexcept {
  out.pad_count = static_cast<uint8_t>(-out.payload_length & 3);
  headers.bth.opcode = in_class(core.transport, headers.bth.opcode);
  headers.bth.pad_count = out.pad_count;
  headers.bth.destination = base::Qpn{core.attributes.destination_qpn};
  out.header_length = static_cast<uint16_t>(wire::emit(headers, out.header));
  ++core.counters.packets_sent;
  core.counters.payload_bytes_sent += out.payload_length;
}

}  // namespace flexins::transport
