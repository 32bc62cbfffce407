#pragma once

#include "base/verbs_types.h"
#include "wire/opcode.h"

namespace flexins::transport {

/// The opcode of a packet of a SEND, WRITE or atomic write by its place in the message, as reliable
/// connections call it. All connected classes number their operations alike (IBTA table 38).
[[nodiscard]] wire::Opcode request_opcode(base::WrOpcode operation, bool first, bool last) noexcept;

/// What a connected class calls an operation that reliable connections call `opcode`.
[[nodiscard]] constexpr wire::Opcode in_class(wire::TransportClass transport, wire::Opcode opcode) {
  return static_cast<wire::Opcode>(static_cast<uint8_t>(transport) | static_cast<uint8_t>(opcode));
}
/// The operation of `opcode` as reliable connections call it.
[[nodiscard]] constexpr wire::Opcode operation_of(wire::Opcode opcode) {
  return static_cast<wire::Opcode>(static_cast<uint8_t>(opcode) & 0x1f);
}

/// Whether a request (called as reliable connections do) is FIRST or ONLY, and LAST or ONLY.
[[nodiscard]] bool starts_message(wire::Opcode operation) noexcept;
[[nodiscard]] bool ends_message(wire::Opcode operation) noexcept;

}  // namespace flexins::transport
