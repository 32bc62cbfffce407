#pragma once

#include "transport/qp_core.h"
#include "wire/headers.h"
#include "wire/packet.h"

namespace flexins::transport {

/// Empties the packet's payload and names its path.
void begin_packet(const QpCore& core, wire::TxPacket& out) noexcept;

/// Fills in what every packet of a QP has in common (transport class, destination, pad) and writes
/// the headers in front of the payload that `out` already names.
void finish_packet(QpCore& core, wire::Headers& headers, wire::TxPacket& out) noexcept;

}  // namespace flexins::transport
