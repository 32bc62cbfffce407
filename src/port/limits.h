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

}  // namespace flexins::port
