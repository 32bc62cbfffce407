#include "wire/internet.h"

#include <cstring>

#include "base/byte_order.h"
#include "base/check.h"

namespace flexins::wire {

namespace {

using base::load_be;
using base::store_be;

constexpr uint8_t kProtocolUdp = 17;
constexpr uint16_t kMoreFragments = 0x2000;
constexpr uint16_t kFragmentOffset = 0x1fff;

InternetError parse_ipv4(std::span<const std::byte> packet, DatagramHeaders& out,
                         std::span<const std::byte>& rest) {
  if (packet.size() < kIpv4HeaderBytes) return InternetError::kTooShort;
  const std::byte* at = packet.data();
  if (load_be<uint8_t>(at) != 0x45) return InternetError::kNotIp;
  const size_t total = load_be<uint16_t>(at + 2);
  if (total < kIpv4HeaderBytes) return InternetError::kBadLength;
  if (total > packet.size()) return InternetError::kTooShort;
  if (internet_checksum(packet.first(kIpv4HeaderBytes)) != 0) return InternetError::kBadChecksum;
  out.traffic_class = load_be<uint8_t>(at + 1);
  out.identification = load_be<uint16_t>(at + 4);
  out.flags_fragment = load_be<uint16_t>(at + 6);
  out.hop_limit = load_be<uint8_t>(at + 8);
  out.flow_label = 0;
  if (out.flags_fragment & (kMoreFragments | kFragmentOffset)) return InternetError::kFragment;
  if (load_be<uint8_t>(at + 9) != kProtocolUdp) return InternetError::kNotUdp;
  out.source = IpAddress::from_v4(at + 12);
  out.destination = IpAddress::from_v4(at + 16);
  rest = packet.subspan(kIpv4HeaderBytes, total - kIpv4HeaderBytes);
  return InternetError::kNone;
}

InternetError parse_ipv6(std::span<const std::byte> packet, DatagramHeaders& out,
                         std::span<const std::byte>& rest) {
  if (packet.size() < kIpv6HeaderBytes) return InternetError::kTooShort;
  const std::byte* at = packet.data();
  const auto first = load_be<uint32_t>(at);
  const size_t length = load_be<uint16_t>(at + 4);
  if (length > packet.size() - kIpv6HeaderBytes) return InternetError::kTooShort;
  if (load_be<uint8_t>(at + 6) != kProtocolUdp) return InternetError::kNotUdp;
  out.traffic_class = static_cast<uint8_t>(first >> 20);
  out.flow_label = first & 0xf'ffff;
  out.hop_limit = load_be<uint8_t>(at + 7);
  out.identification = 0;
  out.flags_fragment = 0;
  out.source = IpAddress::from_v6(at + 8);
  out.destination = IpAddress::from_v6(at + 24);
  // A mapped IPv4 address has no business on the wire, and here it would pass for IPv4.
  if (out.source.is_v4() || out.destination.is_v4()) return InternetError::kNotIp;
  rest = packet.subspan(kIpv6HeaderBytes, length);
  return InternetError::kNone;
}

size_t emit_ip(const DatagramHeaders& headers, uint16_t udp_bytes, std::byte* at) {
  if (headers.destination.is_v4()) {
    store_be<uint8_t>(at, 0x45);
    store_be<uint8_t>(at + 1, headers.traffic_class);
    store_be<uint16_t>(at + 2, static_cast<uint16_t>(kIpv4HeaderBytes + udp_bytes));
    store_be<uint16_t>(at + 4, headers.identification);
    store_be<uint16_t>(at + 6, headers.flags_fragment);
    store_be<uint8_t>(at + 8, headers.hop_limit);
    store_be<uint8_t>(at + 9, kProtocolUdp);
    store_be<uint16_t>(at + 10, 0);
    std::memcpy(at + 12, headers.source.v4_bytes(), 4);
    std::memcpy(at + 16, headers.destination.v4_bytes(), 4);
    store_be<uint16_t>(at + 10, internet_checksum({at, kIpv4HeaderBytes}));
    return kIpv4HeaderBytes;
  }
  store_be<uint32_t>(at, uint32_t{6} << 28 | uint32_t{headers.traffic_class} << 20 |
                             (headers.flow_label & 0xf'ffff));
  store_be<uint16_t>(at + 4, udp_bytes);
  store_be<uint8_t>(at + 6, kProtocolUdp);
  store_be<uint8_t>(at + 7, headers.hop_limit);
  std::memcpy(at + 8, headers.source.bytes.data(), 16);
  std::memcpy(at + 24, headers.destination.bytes.data(), 16);
  return kIpv6HeaderBytes;
}

}  // namespace

std::string_view to_string(InternetError error) {
  switch (error) {
    case InternetError::kNone: return "none";
    case InternetError::kTooShort: return "too short";
    case InternetError::kNotIp: return "not IP, or IPv4 with options";
    case InternetError::kBadChecksum: return "bad IPv4 header checksum";
    case InternetError::kFragment: return "fragment";
    case InternetError::kNotUdp: return "not UDP";
    case InternetError::kBadLength: return "IP and UDP lengths disagree";
  }
  return "invalid";
}

bool parse_ethernet(std::span<const std::byte> frame, EthernetHeader& out) noexcept {
  if (frame.size() < kEthernetBytes) return false;
  std::memcpy(out.destination.data(), frame.data(), 6);
  std::memcpy(out.source.data(), frame.data() + 6, 6);
  out.ether_type = load_be<uint16_t>(frame.data() + 12);
  return true;
}

size_t emit_ethernet(const EthernetHeader& header, std::span<std::byte> out) noexcept {
  FLEXINS_CHECK(out.size() >= kEthernetBytes);
  std::memcpy(out.data(), header.destination.data(), 6);
  std::memcpy(out.data() + 6, header.source.data(), 6);
  store_be<uint16_t>(out.data() + 12, header.ether_type);
  return kEthernetBytes;
}

InternetError parse_datagram(std::span<const std::byte> packet, DatagramHeaders& out,
                             std::span<const std::byte>& payload) noexcept {
  if (packet.empty()) return InternetError::kTooShort;
  const int version = load_be<uint8_t>(packet.data()) >> 4;
  if (version != 4 && version != 6) return InternetError::kNotIp;
  std::span<const std::byte> udp;
  const InternetError error =
      version == 4 ? parse_ipv4(packet, out, udp) : parse_ipv6(packet, out, udp);
  if (error != InternetError::kNone) return error;
  if (udp.size() < kUdpHeaderBytes) return InternetError::kBadLength;
  if (load_be<uint16_t>(udp.data() + 4) != udp.size()) return InternetError::kBadLength;
  out.source_port = load_be<uint16_t>(udp.data());
  out.destination_port = load_be<uint16_t>(udp.data() + 2);
  out.udp_checksum = load_be<uint16_t>(udp.data() + 6);
  out.payload_bytes = static_cast<uint16_t>(udp.size() - kUdpHeaderBytes);
  payload = udp.subspan(kUdpHeaderBytes);
  return InternetError::kNone;
}

size_t datagram_header_bytes(const DatagramHeaders& headers) noexcept {
  return (headers.destination.is_v4() ? kIpv4HeaderBytes : kIpv6HeaderBytes) + kUdpHeaderBytes;
}

size_t emit_datagram(const DatagramHeaders& headers, std::span<std::byte> out) noexcept {
  FLEXINS_CHECK(out.size() >= datagram_header_bytes(headers));
  const auto udp_bytes = static_cast<uint16_t>(kUdpHeaderBytes + headers.payload_bytes);
  std::byte* at = out.data();
  at += emit_ip(headers, udp_bytes, at);
  store_be<uint16_t>(at, headers.source_port);
  store_be<uint16_t>(at + 2, headers.destination_port);
  store_be<uint16_t>(at + 4, udp_bytes);
  store_be<uint16_t>(at + 6, headers.udp_checksum);
  return datagram_header_bytes(headers);
}

OuterHeaders outer_headers(const DatagramHeaders& headers) noexcept {
  OuterHeaders outer;
  outer.source = headers.source;
  outer.destination = headers.destination;
  outer.source_port = headers.source_port;
  outer.destination_port = headers.destination_port;
  outer.transport_bytes = headers.payload_bytes;
  outer.identification = headers.identification;
  outer.dont_fragment = (headers.flags_fragment & kIpv4DontFragment) != 0;
  return outer;
}

uint16_t internet_checksum(std::span<const std::byte> bytes) noexcept {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) sum += load_be<uint16_t>(&bytes[i]);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

}  // namespace flexins::wire
