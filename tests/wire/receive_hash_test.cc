#include "wire/receive_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

namespace flexins::wire {
namespace {

// The verification suite of the receive side scaling specification.
constexpr std::array<uint8_t, 40> kKey = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
constexpr uint32_t kAddresses = base::kHashSourceIpv4 | base::kHashDestinationIpv4 |
                                base::kHashSourceIpv6 | base::kHashDestinationIpv6;
constexpr uint32_t kTcpPorts = base::kHashSourcePortTcp | base::kHashDestinationPortTcp;
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;

std::array<uint8_t, 2> port(uint16_t number) {
  return {static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number)};
}

base::FlowKey v4(std::array<uint8_t, 4> source, uint16_t source_port,
                 std::array<uint8_t, 4> destination, uint16_t destination_port) {
  base::FlowKey key;
  key.ip_version = 4;
  key.protocol = kTcp;
  std::copy(source.begin(), source.end(), key.source_ip.begin() + 12);
  std::copy(destination.begin(), destination.end(), key.destination_ip.begin() + 12);
  key.source_port = port(source_port);
  key.destination_port = port(destination_port);
  return key;
}

uint32_t hash(const base::FlowKey& key, uint32_t fields) {
  return receive_hash(base::ReceiveHash{kKey, fields, 0}, key);
}

TEST(ReceiveHash, IsTheOneOfTheSpecification) {
  const auto first = v4({66, 9, 149, 187}, 2794, {161, 142, 100, 80}, 1766);
  EXPECT_EQ(hash(first, kAddresses), 0x323e8fc2u);
  EXPECT_EQ(hash(first, kAddresses | kTcpPorts), 0x51ccc178u);
  const auto second = v4({199, 92, 111, 2}, 14230, {65, 69, 140, 83}, 4739);
  EXPECT_EQ(hash(second, kAddresses), 0xd718262au);
  EXPECT_EQ(hash(second, kAddresses | kTcpPorts), 0xc626b0eau);
  base::FlowKey v6;
  v6.ip_version = 6;
  v6.protocol = kTcp;
  v6.source_ip = {0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 7};
  v6.destination_ip = {0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x00, 0x03, 0, 0, 0, 0, 0, 0, 0, 1};
  v6.source_port = port(2794);
  v6.destination_port = port(1766);
  EXPECT_EQ(hash(v6, kAddresses), 0x2cc18cd5u);
  EXPECT_EQ(hash(v6, kAddresses | kTcpPorts), 0x40207d3du);
}

TEST(ReceiveHash, TakesTheFieldsThatAreNamedAndThere) {
  auto key = v4({66, 9, 149, 187}, 2794, {161, 142, 100, 80}, 1766);
  EXPECT_EQ(hash(key, 0), 0u);
  EXPECT_EQ(hash(key, base::kHashSourceIpv6 | base::kHashDestinationIpv6), 0u);
  const uint32_t by_source = hash(key, base::kHashSourceIpv4);
  key.destination_ip[15] ^= 1;
  EXPECT_EQ(hash(key, base::kHashSourceIpv4), by_source);
  EXPECT_NE(hash(key, base::kHashDestinationIpv4), by_source);
  key.protocol = kUdp;
  EXPECT_EQ(hash(key, base::kHashSourceIpv4 | kTcpPorts), by_source);
  EXPECT_NE(hash(key, base::kHashSourceIpv4 | base::kHashSourcePortUdp), by_source);
}

}  // namespace
}  // namespace flexins::wire
