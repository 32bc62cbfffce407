#include "wire/frame_key.h"

#include <cstdint>
#include <cstring>

#include "base/byte_order.h"
#include "wire/internet.h"

namespace flexins::wire {

namespace {

using base::load_be;

constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;
constexpr uint16_t kFragmentOffset = 0x1fff;
constexpr size_t kPortBytes = 4;

void parse_ports(std::span<const std::byte> segment, base::FlowKey& out) {
  if ((out.protocol != kTcp && out.protocol != kUdp) || segment.size() < kPortBytes) return;
  std::memcpy(out.source_port.data(), segment.data(), 2);
  std::memcpy(out.destination_port.data(), segment.data() + 2, 2);
}

void parse_v4(std::span<const std::byte> packet, base::FlowKey& out) {
  if (packet.size() < kIpv4HeaderBytes) return;
  const std::byte* at = packet.data();
  const auto first = load_be<uint8_t>(at);
  const size_t header_bytes = size_t{first & 0xfu} * 4;
  if (first >> 4 != 4 || header_bytes < kIpv4HeaderBytes) return;
  out.ip_version = 4;
  out.traffic_class = load_be<uint8_t>(at + 1);
  out.hop_limit = load_be<uint8_t>(at + 8);
  out.protocol = load_be<uint8_t>(at + 9);
  std::memcpy(out.source_ip.data() + 12, at + 12, 4);
  std::memcpy(out.destination_ip.data() + 12, at + 16, 4);
  const bool first_fragment = (load_be<uint16_t>(at + 6) & kFragmentOffset) == 0;
  if (first_fragment && packet.size() > header_bytes) {
    parse_ports(packet.subspan(header_bytes), out);
  }
}

void parse_v6(std::span<const std::byte> packet, base::FlowKey& out) {
  if (packet.size() < kIpv6HeaderBytes) return;
  const std::byte* at = packet.data();
  const auto first = load_be<uint32_t>(at);
  if (first >> 28 != 6) return;
  out.ip_version = 6;
  out.traffic_class = static_cast<uint8_t>(first >> 20);
  base::store_be<uint32_t>(reinterpret_cast<std::byte*>(out.flow_label.data()), first & 0xf'ffff);
  out.protocol = load_be<uint8_t>(at + 6);
  out.hop_limit = load_be<uint8_t>(at + 7);
  std::memcpy(out.source_ip.data(), at + 8, 16);
  std::memcpy(out.destination_ip.data(), at + 24, 16);
  parse_ports(packet.subspan(kIpv6HeaderBytes), out);
}

}  // namespace

bool parse_frame_key(std::span<const std::byte> frame, base::FlowKey& out) noexcept {
  out = {};
  EthernetHeader ethernet;
  if (!parse_ethernet(frame, ethernet)) return false;
  out.destination_mac = ethernet.destination;
  out.source_mac = ethernet.source;
  std::memcpy(out.ether_type.data(), frame.data() + 12, 2);
  const auto packet = frame.subspan(kEthernetBytes);
  if (ethernet.ether_type == kEtherTypeIpv4) parse_v4(packet, out);
  if (ethernet.ether_type == kEtherTypeIpv6) parse_v6(packet, out);
  return true;
}

bool fits(const base::FlowRule& rule, const base::FlowKey& key) noexcept {
  const auto* value = reinterpret_cast<const uint8_t*>(&rule.value);
  const auto* mask = reinterpret_cast<const uint8_t*>(&rule.mask);
  const auto* found = reinterpret_cast<const uint8_t*>(&key);
  uint8_t difference = 0;
  for (size_t i = 0; i < sizeof key; ++i) {
    difference |= static_cast<uint8_t>((found[i] ^ value[i]) & mask[i]);
  }
  return difference == 0;
}

}  // namespace flexins::wire
