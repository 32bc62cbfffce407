#pragma once

#include "base/ids.h"
#include "wire/address.h"
#include "wire/headers.h"
#include "wire/packet.h"

namespace flexins::transport {

/// What is left of a reliable connection when its QP is destroyed. A program that has all that it
/// waited for destroys its QP and ends, while its last acknowledgement may have been lost: the peer
/// repeats a request that was served, and without an answer it would run into retry exceeded. So
/// requests that the QP had received are acknowledged a little longer; new ones are not.
struct Tombstone {
  wire::Path path;
  wire::TransportClass transport = wire::TransportClass::kReliable;
  base::Qpn peer_qpn;
  base::Psn expected;  ///< everything before was received
  uint32_t msn = 0;
};

/// Fills `out` with the acknowledgement if the packet repeats a SEND or WRITE that was received and
/// comes from `source`, the peer's address. False: it is to be dropped.
[[nodiscard]] bool answer_repetition(const Tombstone& tombstone, const wire::Headers& headers,
                                     const wire::IpAddress& source, wire::TxPacket& out) noexcept;

}  // namespace flexins::transport
