#include "wire/icrc.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "wire/internet.h"

namespace flexins::wire {
namespace {

constexpr size_t kIcrcBytes = 4;

/// CRC-32 a bit at a time, over the packet as IBTA annex A17 describes it: the second opinion.
uint32_t slow_icrc(const DatagramHeaders& datagram, std::span<const std::byte> body) {
  DatagramHeaders d = datagram;
  d.payload_bytes = static_cast<uint16_t>(body.size() + kIcrcBytes);
  const bool v4 = d.destination.is_v4();
  d.traffic_class = d.hop_limit = 0xff;
  d.flow_label = 0xf'ffff;
  d.udp_checksum = 0xffff;
  std::vector<std::byte> bytes(8 + datagram_header_bytes(d), std::byte{0xff});
  emit_datagram(d, std::span(bytes).subspan(8));
  if (v4) bytes[8 + 10] = bytes[8 + 11] = std::byte{0xff};
  const size_t bth = bytes.size();
  bytes.insert(bytes.end(), body.begin(), body.end());
  bytes[bth + 4] = std::byte{0xff};
  uint32_t crc = ~0U;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<uint32_t>(byte);
    for (int i = 0; i < 8; ++i) crc = (crc & 1) != 0 ? crc >> 1 ^ 0xedb8'8320 : crc >> 1;
  }
  return ~crc;
}

DatagramHeaders datagram_v4() {
  DatagramHeaders d;
  d.source = IpAddress::from_v4("\x0a\x01\x02\x03");
  d.destination = IpAddress::from_v4("\x0a\x01\x02\x04");
  d.source_port = 0xd123;
  d.identification = 0x1234;
  return d;
}

DatagramHeaders datagram_v6() {
  DatagramHeaders d = datagram_v4();
  d.source = IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
  d.destination = IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02");
  return d;
}

class Icrc : public testing::Test {
 protected:
  std::vector<std::byte> random_body(size_t count) {
    std::vector<std::byte> bytes(count);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random_());
    return bytes;
  }
  /// Body with its ICRC, as a sender with `d`'s headers would put it on the wire.
  std::vector<std::byte> sealed(const DatagramHeaders& d, std::vector<std::byte> body) {
    const uint32_t crc = slow_icrc(d, body);
    for (int shift = 0; shift < 32; shift += 8)
      body.push_back(static_cast<std::byte>(crc >> shift));
    return body;
  }
  static OuterHeaders outer_for(DatagramHeaders d, std::span<const std::byte> packet) {
    d.payload_bytes = static_cast<uint16_t>(packet.size());
    return outer_headers(d);
  }
  uint16_t random16() { return static_cast<uint16_t>(random_()); }

 private:
  std::mt19937 random_{4791};
};

/// Word-sized packets up to MTU 4096, odd lengths, and lengths past any table.
constexpr size_t kLengths[] = {12,   13,   14,   15,   16,   28,   40,   100,  1023, 1024,  1040,
                               2064, 4095, 4124, 4136, 4308, 4312, 4316, 4320, 8999, 60001, 65400};

TEST_F(Icrc, EqualsThePlainComputation) {
  for (const auto& d : {datagram_v4(), datagram_v6()}) {
    for (const size_t length : kLengths) {
      const auto packet = sealed(d, random_body(length));
      uint16_t identification = 7;
      EXPECT_EQ(icrc_check(outer_for(d, packet), packet, identification), IcrcVerdict::kExact)
          << length;
      EXPECT_EQ(identification, 7);
    }
  }
}

TEST_F(Icrc, ComposesOverAnyPieces) {
  const auto d = datagram_v4();
  const auto body = random_body(1500);
  OuterHeaders outer = outer_headers(d);
  outer.transport_bytes = static_cast<uint16_t>(body.size() + kIcrcBytes);
  const auto all = std::span<const std::byte>(body);
  for (const size_t header : {12, 13, 28, 40, 1500}) {
    for (const size_t step : {1, 3, 64, 1000, 5000}) {
      uint32_t running = icrc_begin(outer, all.first(header));
      for (size_t at = header; at < body.size(); at += step) {
        running = icrc_add(running, all.subspan(at, std::min(step, body.size() - at)));
      }
      EXPECT_EQ(icrc_finish(icrc_add(running, {})), slow_icrc(d, body));
    }
  }
}

TEST_F(Icrc, FindsAnyIdentificationAtAnyLength) {
  for (const size_t length : kLengths) {
    const auto body = random_body(length);
    for (int round = 0; round < 20; ++round) {
      DatagramHeaders sender = datagram_v4();
      sender.identification = random16();
      sender.flags_fragment = round % 2 == 0 ? kIpv4DontFragment : 0;
      const auto packet = sealed(sender, body);
      DatagramHeaders guess = sender;
      guess.identification = static_cast<uint16_t>(sender.identification ^ (1 + round * 1000));
      guess.flags_fragment = round % 3 == 0 ? kIpv4DontFragment : 0;
      uint16_t identification = 0;
      ASSERT_EQ(icrc_check(outer_for(guess, packet), packet, identification),
                IcrcVerdict::kPlausible);
      ASSERT_EQ(identification, sender.identification);
    }
  }
}

TEST_F(Icrc, OnlyTheFlagDiffers) {
  DatagramHeaders sender = datagram_v4();
  sender.flags_fragment = 0;
  const auto packet = sealed(sender, random_body(64));
  uint16_t identification = 0;
  EXPECT_EQ(icrc_check(outer_for(datagram_v4(), packet), packet, identification),
            IcrcVerdict::kPlausible);
  EXPECT_EQ(identification, sender.identification);
}

TEST_F(Icrc, OtherBitsOfThatWordAreNotFree) {
  // More-fragments, the reserved flag, an offset: a RoCE packet has none of them.
  for (const uint16_t flags : {0x2000, 0x8000, 0x0001, 0x1000, 0x6000}) {
    DatagramHeaders sender = datagram_v4();
    sender.flags_fragment = flags;
    const auto packet = sealed(sender, random_body(64));
    uint16_t identification = 0;
    EXPECT_EQ(icrc_check(outer_for(datagram_v4(), packet), packet, identification),
              IcrcVerdict::kWrong);
  }
}

TEST_F(Icrc, Ipv6HasNoIdentificationToTry) {
  auto packet = sealed(datagram_v6(), random_body(64));
  uint16_t identification = 7;
  const OuterHeaders outer = outer_for(datagram_v6(), packet);
  for (size_t bit = 0; bit < 32; ++bit) {
    packet[64 + bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_EQ(icrc_check(outer, packet, identification), IcrcVerdict::kWrong);
    packet[64 + bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
  EXPECT_EQ(identification, 7);
}

TEST_F(Icrc, OtherHeadersAreCovered) {
  const auto packet = sealed(datagram_v4(), random_body(64));
  const OuterHeaders right = outer_for(datagram_v4(), packet);
  uint16_t identification = 7;
  OuterHeaders outer = right;
  outer.source.bytes[15] ^= 1;
  EXPECT_EQ(icrc_check(outer, packet, identification), IcrcVerdict::kWrong);
  outer = right;
  outer.destination.bytes[12] ^= 0x80;
  EXPECT_EQ(icrc_check(outer, packet, identification), IcrcVerdict::kWrong);
  outer = right;
  outer.source_port ^= 1;
  EXPECT_EQ(icrc_check(outer, packet, identification), IcrcVerdict::kWrong);
  outer = right;
  outer.destination_port ^= 1;
  EXPECT_EQ(icrc_check(outer, packet, identification), IcrcVerdict::kWrong);
  outer = right;
  outer.transport_bytes = static_cast<uint16_t>(outer.transport_bytes + 4);
  EXPECT_EQ(icrc_check(outer, packet, identification), IcrcVerdict::kWrong);
  EXPECT_EQ(identification, 7);
}

TEST_F(Icrc, DamageOfShortPacketsIsNoticed) {
  const auto packet = sealed(datagram_v4(), random_body(28));
  const OuterHeaders outer = outer_for(datagram_v4(), packet);
  for (size_t bit = 0; bit < packet.size() * 8; ++bit) {
    if (bit / 8 == 4) continue;  // the masked byte
    auto damaged = packet;
    damaged[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    uint16_t identification = 0;
    EXPECT_EQ(icrc_check(outer, damaged, identification), IcrcVerdict::kWrong) << bit;
  }
}

TEST_F(Icrc, RandomDamagePassesAsOftenAsPromised) {
  // 17 of 32 bits are given away, so one in 2^15 wrong ICRCs fits some identification.
  const auto packet = sealed(datagram_v4(), random_body(1024));
  const OuterHeaders outer = outer_for(datagram_v4(), packet);
  constexpr int kRounds = 200'000;
  int plausible = 0;
  for (int round = 0; round < kRounds; ++round) {
    auto damaged = packet;
    for (size_t i = 0; i < kIcrcBytes; i += 2) {
      const uint16_t value = random16();
      std::memcpy(damaged.data() + 1024 + i, &value, sizeof value);
    }
    uint16_t identification = 0;
    if (icrc_check(outer, damaged, identification) == IcrcVerdict::kPlausible) ++plausible;
  }
  EXPECT_GE(plausible, 1);
  EXPECT_LE(plausible, 15);
}

TEST_F(Icrc, TooShortIsWrong) {
  uint16_t identification = 7;
  for (size_t length = 0; length < 16; ++length) {
    const auto packet = random_body(length);
    EXPECT_EQ(icrc_check(outer_for(datagram_v4(), packet), packet, identification),
              IcrcVerdict::kWrong);
  }
  EXPECT_EQ(identification, 7);
}

}  // namespace
}  // namespace flexins::wire
