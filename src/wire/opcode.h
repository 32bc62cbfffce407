#pragma once

#include <cstdint>

namespace flexins::wire {

/// BTH opcodes (IBTA table 38): transport class in the top three bits.
enum class Opcode : uint8_t {
  kRcSendFirst = 0x00,
  kRcSendMiddle = 0x01,
  kRcSendLast = 0x02,
  kRcSendLastImmediate = 0x03,
  kRcSendOnly = 0x04,
  kRcSendOnlyImmediate = 0x05,
  kRcWriteFirst = 0x06,
  kRcWriteMiddle = 0x07,
  kRcWriteLast = 0x08,
  kRcWriteLastImmediate = 0x09,
  kRcWriteOnly = 0x0a,
  kRcWriteOnlyImmediate = 0x0b,
  kRcReadRequest = 0x0c,
  kRcReadResponseFirst = 0x0d,
  kRcReadResponseMiddle = 0x0e,
  kRcReadResponseLast = 0x0f,
  kRcReadResponseOnly = 0x10,
  kRcAcknowledge = 0x11,
  kRcAtomicAcknowledge = 0x12,
  kRcCompareSwap = 0x13,
  kRcFetchAdd = 0x14,
  kRcSendLastInvalidate = 0x16,
  kRcSendOnlyInvalidate = 0x17,
  kRcAtomicWrite = 0x1d,  // IBTA annex A19; 0x1c is FLUSH

  kUcSendFirst = 0x20,
  kUcSendMiddle = 0x21,
  kUcSendLast = 0x22,
  kUcSendLastImmediate = 0x23,
  kUcSendOnly = 0x24,
  kUcSendOnlyImmediate = 0x25,
  kUcWriteFirst = 0x26,
  kUcWriteMiddle = 0x27,
  kUcWriteLast = 0x28,
  kUcWriteLastImmediate = 0x29,
  kUcWriteOnly = 0x2a,
  kUcWriteOnlyImmediate = 0x2b,

  kUdSendOnly = 0x64,
  kUdSendOnlyImmediate = 0x65,

  kCnp = 0x81,

  kXrcSendFirst = 0xa0,  // XRC repeats the RC operations at 0xa0 + n
};

/// Transport class: the top three bits of an opcode.
enum class TransportClass : uint8_t {
  kReliable = 0x00,
  kUnreliable = 0x20,
  kReliableDatagram = 0x40,
  kDatagram = 0x60,
  kCongestion = 0x80,
  kExtendedReliable = 0xa0,
};

[[nodiscard]] constexpr TransportClass transport_class(Opcode opcode) {
  return static_cast<TransportClass>(static_cast<uint8_t>(opcode) & 0xe0);
}

}  // namespace flexins::wire
