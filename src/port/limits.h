#pragma once

#include <cstddef>
#include <cstdint>

#include "wire/packet.h"

/// Sizes that the ports share.

namespace flexins::port {

inline constexpr size_t kBthBytes = 12;
inline constexpr size_t kIcrcBytes = 4;
inline constexpr size_t kMaxPadBytes = 3;
/// What frames a packet: pad and ICRC.
inline constexpr size_t kMaxTrailerBytes = kMaxPadBytes + kIcrcBytes;
/// Largest BTH + … + ICRC of any RoCEv2 packet.
inline constexpr uint32_t kMaxTransportBytes =
    static_cast<uint32_t>(wire::kMaxHeaderBytes + wire::kMaxMtuBytes + kMaxTrailerBytes);

/// Bytes of `packet` from the BTH to the ICRC inclusive.
[[nodiscard]] inline size_t transport_bytes(const wire::TxPacket& packet) {
  return packet.header_length + size_t{packet.payload_length} + packet.pad_count + kIcrcBytes;
}

}  // namespace flexins::port
