#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/address.h"

/// The invariant CRC of RoCEv2 (IBTA annex A17): CRC-32 over the packet from the IP header on, with
/// the fields that a router may change taken as ones. See docs/architecture.md, "ICRC".

namespace flexins::wire {

/// What the ICRC needs to know of the headers that the kernel writes.
struct OuterHeaders {
  IpAddress source;
  IpAddress destination;
  uint16_t source_port = 0;
  uint16_t destination_port = kRocePort;
  /// Bytes from the BTH to the ICRC inclusive.
  uint16_t transport_bytes = 0;
  /// IPv4 only: identification and the DF bit lie inside the ICRC, yet a UDP socket shows neither.
  uint16_t identification = 0;
  bool dont_fragment = true;
};

/// Begins an ICRC: outer headers, then `transport_header` (BTH and what follows it contiguously,
/// at least 12 bytes, BTH byte 4 is masked). Returns the running CRC.
[[nodiscard]] uint32_t icrc_begin(const OuterHeaders& outer,
                                  std::span<const std::byte> transport_header) noexcept;
/// Adds bytes that follow (payload, pad).
[[nodiscard]] uint32_t icrc_add(uint32_t running, std::span<const std::byte> bytes) noexcept;
/// The four ICRC bytes of a packet hold this in little-endian order.
[[nodiscard]] uint32_t icrc_finish(uint32_t running) noexcept;

enum class IcrcVerdict : uint8_t {
  kExact,      ///< right for the given identification and DF
  kPlausible,  ///< right for some identification (IPv4; 15 bits of check strength remain)
  kWrong,
};
/// Checks `packet` (BTH to ICRC inclusive; kWrong if shorter than 16 bytes) as a UDP socket must:
/// first with `outer.identification`, then for any identification, with and without DF.
/// On kPlausible `identification` is the one that fits (the only one), else it is unchanged: a
/// caller that guesses the next from it gets kExact, with all 32 bits of check strength.
[[nodiscard]] IcrcVerdict icrc_check(const OuterHeaders& outer, std::span<const std::byte> packet,
                                     uint16_t& identification) noexcept;

}  // namespace flexins::wire
