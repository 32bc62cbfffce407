#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/ids.h"
#include "wire/opcode.h"

/// IBTA transport headers (InfiniBand Architecture Specification volume 1, chapter 9), as plain
/// structs. `parse` checks before anything is read; `emit` writes from the same structs. Reserved
/// bits are kept, so that emit(parse(x)) == x.

namespace flexins::wire {

/// Base transport header, 12 bytes.
struct Bth {
  Opcode opcode = Opcode::kRcSendOnly;
  bool solicited = false;
  bool migration = false;  ///< MigReq; Linux sends 0
  uint8_t pad_count = 0;   ///< 0…3
  uint8_t version = 0;     ///< TVer, must be 0
  uint16_t pkey = 0xffff;
  uint8_t byte4 = 0;  ///< FECN 0x80, BECN 0x40, reserved; outside the ICRC
  base::Qpn destination;
  bool ack_request = false;
  uint8_t reserved7 = 0;  ///< low 7 bits of the byte that holds AckReq
  base::Psn psn;
};

/// RDMA extended transport header, 16 bytes.
struct Reth {
  uint64_t address = 0;
  uint32_t key = 0;
  uint32_t length = 0;
};

/// ACK extended transport header, 4 bytes.
struct Aeth {
  uint8_t syndrome = 0;
  uint32_t msn = 0;  ///< 24 bits
};

/// AETH syndromes (IBTA 9.7.5.1): the top three bits say what kind.
inline constexpr uint8_t kSyndromeAck = 0x1f;  ///< ACK without end-to-end credits
inline constexpr uint8_t kSyndromeRnr = 0x20;  ///< | 5-bit timer code
inline constexpr uint8_t kSyndromeNakSequence = 0x60;
inline constexpr uint8_t kSyndromeNakInvalidRequest = 0x61;
inline constexpr uint8_t kSyndromeNakRemoteAccess = 0x62;
inline constexpr uint8_t kSyndromeNakRemoteOperation = 0x63;
inline constexpr uint8_t kSyndromeNakInvalidRd = 0x64;

/// Atomic extended transport header, 28 bytes.
struct AtomicEth {
  uint64_t address = 0;
  uint32_t key = 0;
  uint64_t swap_add = 0;
  uint64_t compare = 0;
};

/// Datagram extended transport header, 8 bytes.
struct Deth {
  uint32_t qkey = 0;
  uint8_t reserved = 0;
  base::Qpn source;
};

/// XRC extended transport header, 4 bytes.
struct Xrceth {
  uint8_t reserved = 0;
  uint32_t srqn = 0;  ///< 24 bits
};

/// All transport headers of one packet. Which members count follows from the opcode
/// (header_set()).
struct Headers {
  Bth bth;
  Xrceth xrceth;
  Deth deth;
  Reth reth;
  AtomicEth atomic;
  Aeth aeth;
  uint64_t atomic_original = 0;  ///< AtomicAckETH
  uint32_t immediate = 0;        ///< ImmDt, the four bytes as they stand on the wire (big-endian)
  uint32_t invalidate_key = 0;   ///< IETH
};

/// Bits of header_set().
enum HeaderBit : uint16_t {
  kHasXrceth = 1 << 0,
  kHasDeth = 1 << 1,
  kHasReth = 1 << 2,
  kHasAtomicEth = 1 << 3,
  kHasAeth = 1 << 4,
  kHasAtomicAck = 1 << 5,
  kHasImmediate = 1 << 6,
  kHasIeth = 1 << 7,
  kHasPayload = 1 << 8,  ///< a payload may follow (it may be empty)
  kKnownOpcode = 1 << 15,
};

/// Which headers an opcode carries behind the BTH; 0 for an opcode that IBTA does not define.
[[nodiscard]] uint16_t header_set(Opcode opcode) noexcept;

/// Bytes of all transport headers of `opcode`, BTH included; 0 for an unknown opcode.
[[nodiscard]] size_t header_bytes(Opcode opcode) noexcept;

enum class ParseError : uint8_t {
  kNone,
  kTooShort,       ///< shorter than its headers and pad
  kUnknownOpcode,  ///< not in the table
  kBadVersion,     ///< TVer is not 0
  kBadPad,         ///< pad without payload, or more pad than bytes
};
[[nodiscard]] std::string_view to_string(ParseError error);

/// Reads the headers at the front of `bytes` (BTH on; ICRC already cut). `trailing` is the number
/// of payload bytes that the caller holds elsewhere (local port; without their pad).
/// On success `header_length` is where the payload starts; members whose header the opcode does not
/// carry keep what they held. On failure `out` holds anything.
[[nodiscard]] ParseError parse(std::span<const std::byte> bytes, size_t trailing, Headers& out,
                               size_t& header_length) noexcept;

/// Writes the headers of `headers.bth.opcode`; returns bytes written. `out` holds at least
/// header_bytes(opcode); the opcode is known.
size_t emit(const Headers& headers, std::span<std::byte> out) noexcept;

}  // namespace flexins::wire
