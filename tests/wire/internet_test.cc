#include "wire/internet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/byte_order.h"

namespace flexins::wire {
namespace {

constexpr uint16_t kPayloadBytes = 20;

/// Parses one datagram after a change to its bytes.
class Internet : public testing::Test {
 protected:
  explicit Internet(bool v6 = false) {
    headers_.source = v6 ? IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01")
                         : IpAddress::from_v4("\x0a\0\0\x01");
    headers_.destination = v6 ? IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02")
                              : IpAddress::from_v4("\x0a\0\0\x02");
    headers_.payload_bytes = kPayloadBytes;
    packet_.resize(datagram_header_bytes(headers_) + kPayloadBytes);
    emit_datagram(headers_, packet_);
  }
  void set8(size_t at, uint8_t value) { base::store_be<uint8_t>(&packet_[at], value); }
  void set16(size_t at, uint16_t value) { base::store_be<uint16_t>(&packet_[at], value); }
  void repair_checksum() {
    set16(10, 0);
    set16(10, internet_checksum(std::span(packet_).first(kIpv4HeaderBytes)));
  }
  InternetError run() { return parse_datagram(packet_, parsed_, payload_); }

  DatagramHeaders headers_;
  std::vector<std::byte> packet_;
  DatagramHeaders parsed_;
  std::span<const std::byte> payload_;
};

class InternetV6 : public Internet {
 protected:
  InternetV6() : Internet(true) {}
};

TEST_F(Internet, LinkPaddingIsLeftOut) {
  packet_.resize(packet_.size() + 7);
  EXPECT_EQ(run(), InternetError::kNone);
  EXPECT_EQ(payload_.size(), kPayloadBytes);
}

TEST_F(Internet, Checksum) {
  // Worked by hand: the header's words sum up to 0xd944.
  EXPECT_EQ(base::load_be<uint16_t>(&packet_[10]), 0x26bb);
  set8(8, 63);
  EXPECT_EQ(run(), InternetError::kBadChecksum);
  repair_checksum();
  EXPECT_EQ(run(), InternetError::kNone);
  EXPECT_EQ(parsed_.hop_limit, 63);
}

TEST_F(Internet, Fragments) {
  for (const uint16_t flags : {0x2000, 0x0001, 0x3fff}) {
    set16(6, flags);
    repair_checksum();
    EXPECT_EQ(run(), InternetError::kFragment);
  }
}

TEST_F(Internet, Options) {
  set8(0, 0x46);
  repair_checksum();
  EXPECT_EQ(run(), InternetError::kNotIp);
}

TEST_F(Internet, OtherVersion) {
  set8(0, 0x55);
  EXPECT_EQ(run(), InternetError::kNotIp);
}

TEST_F(Internet, OtherProtocol) {
  set8(9, 6);
  repair_checksum();
  EXPECT_EQ(run(), InternetError::kNotUdp);
}

TEST_F(Internet, LengthsDisagree) {
  set16(kIpv4HeaderBytes + 4, kUdpHeaderBytes + kPayloadBytes - 1);
  EXPECT_EQ(run(), InternetError::kBadLength);
  set16(2, kIpv4HeaderBytes + 7);  // no room for UDP
  repair_checksum();
  EXPECT_EQ(run(), InternetError::kBadLength);
  set16(2, kIpv4HeaderBytes - 1);
  repair_checksum();
  EXPECT_EQ(run(), InternetError::kBadLength);
}

TEST_F(InternetV6, OtherProtocol) {
  set8(6, 44);  // a fragment header
  EXPECT_EQ(run(), InternetError::kNotUdp);
}

TEST_F(InternetV6, LengthsDisagree) {
  set16(4, kUdpHeaderBytes + kPayloadBytes - 1);
  EXPECT_EQ(run(), InternetError::kBadLength);
}

TEST_F(InternetV6, MappedAddressIsNoIpv6) {
  const IpAddress mapped = IpAddress::from_v4("\x0a\0\0\x01");
  std::copy_n(reinterpret_cast<const std::byte*>(mapped.bytes.data()), 16, packet_.begin() + 8);
  EXPECT_EQ(run(), InternetError::kNotIp);
}

TEST(Ethernet, RoundTripAndTruncation) {
  EthernetHeader in;
  in.destination = {1, 2, 3, 4, 5, 6};
  in.source = {7, 8, 9, 10, 11, 12};
  in.ether_type = kEtherTypeIpv6;
  std::vector<std::byte> bytes(kEthernetBytes);
  EXPECT_EQ(emit_ethernet(in, bytes), kEthernetBytes);
  EthernetHeader out;
  ASSERT_TRUE(parse_ethernet(bytes, out));
  EXPECT_EQ(out.destination, in.destination);
  EXPECT_EQ(out.source, in.source);
  EXPECT_EQ(out.ether_type, in.ether_type);
  bytes.pop_back();
  EXPECT_FALSE(parse_ethernet(bytes, out));
}

TEST(OuterHeadersOf, TakesWhatTheIcrcCovers) {
  DatagramHeaders d;
  d.source = IpAddress::from_v4("\x0a\0\0\x01");
  d.destination = IpAddress::from_v4("\x0a\0\0\x02");
  d.source_port = 0xc001;
  d.identification = 0x1234;
  d.flags_fragment = 0;
  d.payload_bytes = 100;
  const OuterHeaders outer = outer_headers(d);
  EXPECT_EQ(outer.source, d.source);
  EXPECT_EQ(outer.destination, d.destination);
  EXPECT_EQ(outer.source_port, 0xc001);
  EXPECT_EQ(outer.destination_port, kRocePort);
  EXPECT_EQ(outer.transport_bytes, 100);
  EXPECT_EQ(outer.identification, 0x1234);
  EXPECT_FALSE(outer.dont_fragment);
}

TEST(IpAddressTest, MappedOrNot) {
  EXPECT_TRUE(IpAddress::from_v4("\x0a\0\0\x01").is_v4());
  EXPECT_FALSE(IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01").is_v4());
  EXPECT_FALSE(IpAddress{}.is_v4());
}

}  // namespace
}  // namespace flexins::wire
