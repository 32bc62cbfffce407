#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "wire/address.h"

/// What travels between an engine and a port: a packet without its outer headers. A sender hands
/// over header bytes and *references* to payload (nothing is copied); a receiver is handed bytes.
/// The port adds and checks IP, UDP and the ICRC.

namespace flexins::wire {

/// Largest sum of IBTA transport headers in front of a payload (BTH 12 + XRCETH 4 + DETH 8 +
/// AtomicETH 28 + slack).
inline constexpr size_t kMaxHeaderBytes = 64;
/// SGEs of one message that one packet may touch, plus one for staged bytes.
inline constexpr size_t kMaxPieces = 33;
/// Path MTU 4096 is the largest that RoCE has.
inline constexpr uint32_t kMaxMtuBytes = 4096;

/// One way to a peer: shared by all packets of a QP, outlives every packet that names it.
struct Path {
  IpAddress source;
  IpAddress destination;
  uint16_t source_port = 0xc000;  ///< UDP source port: the flow, for ECMP (0xc000…0xffff)
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 64;
  /// The destination is an address of the sender's own engine.
  bool is_local = false;
  /// No address at all: the payload is an Ethernet frame that says where it goes.
  bool is_raw = false;
};

/// A packet to send. Memory named by `pieces` stays valid until Port::transmit has returned (local
/// port: until the next receive has been drained).
struct TxPacket {
  const Path* path = nullptr;
  uint16_t header_length = 0;
  uint8_t pad_count = 0;  ///< 0…3 zero bytes after the payload, as BTH.PadCnt says
  uint8_t piece_count = 0;
  /// Fault injection only: leaves with an ICRC that is wrong.
  bool corrupt = false;
  uint32_t payload_length = 0;  ///< sum of the pieces' lengths
  std::array<std::byte, kMaxHeaderBytes> header;
  std::array<iovec, kMaxPieces> pieces;
  /// Scratch of kMaxMtuBytes for payload that cannot be referenced in place (inline data, memory
  /// reached only through a descriptor). Set by the engine, not by the port.
  std::byte* staging = nullptr;
};

/// A received packet; valid until the next Port::receive.
struct RxPacket {
  const std::byte* bytes = nullptr;  ///< from the BTH on; the port has checked and cut the ICRC
  uint32_t length = 0;               ///< of `bytes`, pad included
  /// Payload that does not follow `bytes` in memory (local port). Pad is not included.
  const iovec* pieces = nullptr;
  uint32_t piece_count = 0;
  IpAddress source;
  IpAddress destination;
  uint16_t source_port = 0;   ///< UDP
  uint8_t traffic_class = 0;  ///< low two bits: ECN
  uint8_t hop_limit = 64;     ///< TTL as it arrived
};

/// Copies `pieces` one behind the other to `to`; returns the end of the copy. Where the memory may
/// vanish (base::guarded), the caller guards.
inline std::byte* copy_pieces(std::span<const iovec> pieces, std::byte* to) noexcept {
  for (const iovec& piece : pieces) {
    std::memcpy(to, piece.iov_base, piece.iov_len);
    to += piece.iov_len;
  }
  return to;
}

[[nodiscard]] inline std::span<const iovec> pieces_of(const TxPacket& packet) noexcept {
  return {packet.pieces.data(), packet.piece_count};
}
[[nodiscard]] inline std::span<const iovec> pieces_of(const RxPacket& packet) noexcept {
  return {packet.pieces, packet.piece_count};
}

}  // namespace flexins::wire
