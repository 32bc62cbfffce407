#pragma once

#include <cstddef>
#include <span>

#include "wire/packet.h"

namespace flexins::wire {

/// Bytes of the global route header that stands in front of every received datagram's payload.
inline constexpr size_t kGlobalRouteBytes = 40;

/// Writes what a RoCEv2 adapter puts there: the packet's IPv6 header, or 20 zero bytes and its IPv4
/// header (IBTA annex A17.4.3.1). A UDP socket does not show everything of them: the IPv4
/// identification is taken as 0 with DF set, the flow label as 0, and lengths and checksum are made
/// to fit. `datagram_bytes`: from the BTH to the ICRC inclusive.
void emit_global_route(const RxPacket& packet, size_t datagram_bytes,
                       std::span<std::byte, kGlobalRouteBytes> out) noexcept;

}  // namespace flexins::wire
