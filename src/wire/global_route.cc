#include "wire/global_route.h"

#include <array>
#include <cstring>

#include "wire/internet.h"

namespace flexins::wire {

void emit_global_route(const RxPacket& packet, size_t datagram_bytes,
                       std::span<std::byte, kGlobalRouteBytes> out) noexcept {
  DatagramHeaders headers;
  headers.source = packet.source;
  headers.destination = packet.destination;
  headers.traffic_class = packet.traffic_class;
  headers.hop_limit = packet.hop_limit;
  headers.source_port = packet.source_port;
  headers.payload_bytes = static_cast<uint16_t>(datagram_bytes);
  std::array<std::byte, kIpv6HeaderBytes + kUdpHeaderBytes> both;
  const size_t ip_bytes = emit_datagram(headers, both) - kUdpHeaderBytes;
  const size_t zeros = kGlobalRouteBytes - ip_bytes;
  std::memset(out.data(), 0, zeros);
  std::memcpy(out.data() + zeros, both.data(), ip_bytes);
}

}  // namespace flexins::wire
