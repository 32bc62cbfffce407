#include "wire/frame_key.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "wire/global_route.h"
#include "wire/internet.h"

namespace flexins::wire {
namespace {

std::vector<std::byte> udp_frame(bool v6) {
  EthernetHeader ethernet;
  ethernet.destination = {2, 0, 0, 0, 0, 1};
  ethernet.source = {2, 0, 0, 0, 0, 2};
  ethernet.ether_type = v6 ? kEtherTypeIpv6 : kEtherTypeIpv4;
  DatagramHeaders ip;
  ip.source = v6 ? IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01")
                 : IpAddress::from_v4("\x0a\0\0\x01");
  ip.destination = v6 ? IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02")
                      : IpAddress::from_v4("\x0a\0\0\x02");
  ip.flow_label = v6 ? 0x12345 : 0;
  ip.source_port = 0x1111;
  ip.destination_port = 0x2222;
  std::vector<std::byte> frame(kEthernetBytes + datagram_header_bytes(ip));
  emit_ethernet(ethernet, frame);
  emit_datagram(ip, std::span(frame).subspan(kEthernetBytes));
  return frame;
}

TEST(FrameKey, HasAllFieldsOfBothIpVersions) {
  for (const bool v6 : {false, true}) {
    base::FlowKey key;
    ASSERT_TRUE(parse_frame_key(udp_frame(v6), key));
    EXPECT_EQ(key.destination_mac[5], 1);
    EXPECT_EQ(key.ip_version, v6 ? 6 : 4);
    EXPECT_EQ(key.protocol, 17);
    EXPECT_EQ(key.source_ip[15], 1);
    EXPECT_EQ(key.destination_ip[15], 2);
    EXPECT_EQ(key.source_port[0], 0x11);
    EXPECT_EQ(key.destination_port[1], 0x22);
    EXPECT_EQ(key.flow_label[3], v6 ? 0x45 : 0);
  }
}

TEST(FrameKey, StopsWhereTheFrameDoes) {
  for (const bool v6 : {false, true}) {
    const auto frame = udp_frame(v6);
    for (size_t length = 0; length < frame.size(); ++length) {
      base::FlowKey key;
      EXPECT_EQ(parse_frame_key(std::span(frame).first(length), key), length >= kEthernetBytes);
      if (length < kEthernetBytes + kIpv4HeaderBytes) {
        EXPECT_EQ(key.ip_version, 0);
      }
    }
  }
}

TEST(FrameKey, PortsAreOfFirstFragmentsOnly) {
  auto frame = udp_frame(false);
  frame[kEthernetBytes + 7] = std::byte{1};
  base::FlowKey key;
  ASSERT_TRUE(parse_frame_key(frame, key));
  EXPECT_EQ(key.source_port[0], 0);
}

TEST(FrameKey, RulesLookAtMaskedFieldsOnly) {
  base::FlowKey key;
  ASSERT_TRUE(parse_frame_key(udp_frame(false), key));
  base::FlowRule rule;
  EXPECT_TRUE(fits(rule, key));
  rule.value.protocol = 6;
  EXPECT_TRUE(fits(rule, key));
  rule.mask.protocol = 0xff;
  EXPECT_FALSE(fits(rule, key));
  rule.mask.protocol = 0x01;  // 6 and 17 differ in it
  EXPECT_FALSE(fits(rule, key));
  rule.value.protocol = 19;
  EXPECT_TRUE(fits(rule, key));
}

TEST(GlobalRoute, IsTheIpHeader) {
  RxPacket packet;
  packet.source = IpAddress::from_v4("\x0a\0\0\x01");
  packet.destination = IpAddress::from_v4("\x0a\0\0\x02");
  packet.traffic_class = 3;
  packet.hop_limit = 7;
  std::array<std::byte, kGlobalRouteBytes> route;
  emit_global_route(packet, 24, route);
  EXPECT_EQ(route[19], std::byte{0});
  EXPECT_EQ(route[20], std::byte{0x45});
  EXPECT_EQ(route[21], std::byte{3});
  EXPECT_EQ(route[23], std::byte{52});
  EXPECT_EQ(route[28], std::byte{7});
  EXPECT_EQ(internet_checksum(std::span(route).subspan(20)), 0);

  packet.source = packet.destination = IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
  emit_global_route(packet, 24, route);
  EXPECT_EQ(route[0], std::byte{0x60});
  EXPECT_EQ(route[5], std::byte{32});
  EXPECT_EQ(route[6], std::byte{17});
  EXPECT_EQ(route[7], std::byte{7});
  EXPECT_EQ(std::memcmp(&route[24], packet.destination.bytes.data(), 16), 0);
}

TEST(Groups, HaveTwoSpellings) {
  const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 239, 1, 2, 3};
  const uint8_t global[16] = {0xff, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 239, 1, 2, 3};
  const uint8_t other[16] = {0xff, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3};
  EXPECT_EQ(IpAddress::from_gid(mapped), IpAddress::from_gid(global));
  EXPECT_TRUE(IpAddress::from_gid(mapped).is_multicast());
  EXPECT_TRUE(IpAddress::from_gid(mapped).is_v4());
  EXPECT_FALSE(IpAddress::from_gid(other).is_v4());
  EXPECT_TRUE(IpAddress::from_gid(other).is_multicast());
}

}  // namespace
}  // namespace flexins::wire
