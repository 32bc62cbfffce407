#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include "namespaces.h"
#include "port/interface.h"
#include "support.h"
#include "wire/internet.h"

/// What the UDP port sends, seen by someone who sees the real headers.

namespace flexins::port::testing {
namespace {

/// Sees the frames that arrive at one interface, from the IP header on.
class Sniffer {
 public:
  explicit Sniffer(const char* interface)
      : fd_(socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL))) {
    sockaddr_ll at = {};
    at.sll_family = AF_PACKET;
    at.sll_protocol = htons(ETH_P_ALL);
    at.sll_ifindex = static_cast<int>(if_nametoindex(interface));
    const int bytes = 16 << 20;
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    if (fd_.valid() && bind(fd_.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) {
      fd_.reset();
    }
  }
  [[nodiscard]] bool ok() const { return fd_.valid(); }

  struct Packet {
    wire::DatagramHeaders headers;
    std::vector<std::byte> transport;
    wire::IcrcVerdict verdict = wire::IcrcVerdict::kWrong;
  };

  /// RoCE packets to `destination` until `wanted` are there or none has come for a while.
  std::vector<Packet> packets(const wire::IpAddress& destination, size_t wanted) {
    std::vector<Packet> all;
    std::vector<std::byte> frame(70000);
    pollfd ready = {fd_.get(), POLLIN, 0};
    while (all.size() < wanted && poll(&ready, 1, 2000) == 1) {
      sockaddr_ll from = {};
      socklen_t length = sizeof from;
      const ssize_t n = recvfrom(fd_.get(), frame.data(), frame.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &length);
      if (n <= 0 || from.sll_pkttype == PACKET_OUTGOING) continue;
      Packet packet;
      std::span<const std::byte> payload;
      if (wire::parse_datagram({frame.data(), static_cast<size_t>(n)}, packet.headers, payload) !=
              wire::InternetError::kNone ||
          packet.headers.destination != destination ||
          packet.headers.destination_port != wire::kRocePort) {
        continue;
      }
      packet.transport.assign(payload.begin(), payload.end());
      uint16_t identification = 0;
      packet.verdict =
          wire::icrc_check(wire::outer_headers(packet.headers), payload, identification);
      all.push_back(std::move(packet));
    }
    return all;
  }

 private:
  base::UniqueFd fd_;
};

std::unique_ptr<Port> open_udp(const wire::IpAddress& address, UdpPortConfig config = {}) {
  config.addresses = {address};
  auto port = UdpPort::open(config);
  EXPECT_TRUE(port.ok()) << port.error().message;
  return port ? std::move(*port) : nullptr;
}

wire::IpAddress address(const char* text) { return parse_address(text).value(); }

TEST(Wire, LonePacketsHaveTheIcrcOfTheirRealHeaders) {
  Sniffer sniffer("lo");
  if (!sniffer.ok()) GTEST_SKIP() << "needs CAP_NET_RAW";
  auto from = open_udp(loopback(0));
  auto to = open_udp(loopback(1));
  Burst burst({.source = loopback(0), .destination = loopback(1)});
  for (uint32_t i = 0; i < 20; ++i) {
    burst.clear();
    burst.add(i, i * 211);
    ASSERT_EQ(from->transmit(burst.span(), 0), 1u);
  }
  const auto seen = sniffer.packets(loopback(1), 20);
  ASSERT_EQ(seen.size(), 20u);
  for (const auto& packet : seen) {
    EXPECT_EQ(packet.verdict, wire::IcrcVerdict::kExact);
    EXPECT_EQ(packet.headers.identification, 0);
    EXPECT_EQ(packet.headers.flags_fragment, wire::kIpv4DontFragment);
    EXPECT_GE(packet.headers.source_port, 0x8000);
  }
}

void cut_trains_are_right(const char* left, const char* right, UdpPortConfig config) {
  const VethPair veth(9000, true);
  if (!veth.ok()) GTEST_SKIP() << "needs root and iproute2";
  Sniffer sniffer("right");
  ASSERT_TRUE(sniffer.ok());
  auto to = open_udp(address(right), config);
  ASSERT_TRUE(veth.enter_left());
  auto from = open_udp(address(left), config);
  Burst burst({.source = address(left), .destination = address(right)});
  uint32_t psn = 0;
  for (const uint32_t length : {4096u, 1024u, 64u}) {
    for (int i = 0; i < 15; ++i) burst.add(psn++, length);
    burst.add(psn++, 13);
  }
  const size_t sent = burst.span().size();
  const auto arrived = exchange(*from, *to, burst.span(), sent);
  ASSERT_EQ(arrived.size(), sent);
  for (size_t i = 0; i < sent; ++i) {
    EXPECT_TRUE(arrived[i].has_pattern(burst.span()[i].payload_length)) << i;
  }
  EXPECT_EQ(count(*from, "tx_trains"), config.segments_max == 1 ? 0u : 3u);
  EXPECT_EQ(count(*to, "rx_trains"), 0u);
  EXPECT_EQ(count(*to, "icrc_wrong"), 0u);

  const auto seen = sniffer.packets(address(right), sent);
  ASSERT_EQ(seen.size(), sent);
  for (size_t i = 0; i < sent; ++i) {
    EXPECT_EQ(seen[i].verdict, wire::IcrcVerdict::kExact) << i;
    if (address(left).is_v4()) {
      EXPECT_EQ(seen[i].headers.identification, config.segments_max == 1 ? 0 : i % 16) << i;
    }
  }
}

TEST(Wire, CutTrainsHaveTheIcrcOfTheirRealHeaders) {
  in_own_thread([] { cut_trains_are_right("10.77.0.1", "10.77.0.2", {}); });
}
TEST(Wire, CutTrainsHaveTheIcrcOfTheirRealHeadersV6) {
  in_own_thread([] { cut_trains_are_right("fd77::1", "fd77::2", {}); });
}
TEST(Wire, PacketsSentSinglyHaveTheIcrcOfTheirRealHeaders) {
  in_own_thread(
      [] { cut_trains_are_right("10.77.0.1", "10.77.0.2", {.addresses = {}, .segments_max = 1}); });
}

TEST(Wire, TrainsCrossVethWhole) {
  in_own_thread([] {
    const VethPair veth(9000, false);
    if (!veth.ok()) GTEST_SKIP() << "needs root and iproute2";
    auto to = open_udp(address("10.77.0.2"));
    ASSERT_TRUE(veth.enter_left());
    auto from = open_udp(address("10.77.0.1"));
    Burst burst({.source = address("10.77.0.1"), .destination = address("10.77.0.2")});
    for (uint32_t psn = 0; psn < 15; ++psn) burst.add(psn, 4096);
    EXPECT_EQ(exchange(*from, *to, burst.span(), 15).size(), 15u);
    EXPECT_EQ(count(*to, "rx_trains"), 1u);
    EXPECT_EQ(count(*to, "icrc_exact"), 15u);
  });
}

TEST(Wire, TrafficClassAndHopLimitArrive) {
  Sniffer sniffer("lo");
  auto port = open_udp(loopback(0));
  Burst burst({.source = loopback(0),
               .destination = loopback(0),
               .source_port = 0xc003,
               .traffic_class = 0x6a,
               .hop_limit = 7});
  for (uint32_t psn = 0; psn < 3; ++psn) burst.add(psn, psn == 2 ? 100 : 2000);
  const auto arrived = exchange(*port, *port, burst.span(), 3);
  ASSERT_EQ(arrived.size(), 3u);
  for (const Arrived& one : arrived) EXPECT_EQ(one.traffic_class, 0x6a);
  if (!sniffer.ok()) return;
  const auto seen = sniffer.packets(loopback(0), 1);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].headers.hop_limit, 7);
  EXPECT_EQ(seen[0].headers.traffic_class, 0x6a);
}

TEST(Wire, TooLongForThePathIsDroppedAndCounted) {
  in_own_thread([] {
    const VethPair veth(1500, false);
    if (!veth.ok()) GTEST_SKIP() << "needs root and iproute2";
    ASSERT_TRUE(veth.enter_left());
    auto from = open_udp(address("10.77.0.1"));
    Burst burst({.source = address("10.77.0.1"), .destination = address("10.77.0.2")});
    for (uint32_t psn = 0; psn < 4; ++psn) burst.add(psn, 4096);
    burst.add(4, 1024);
    EXPECT_EQ(from->transmit(burst.span(), 0), 5u);
    EXPECT_EQ(count(*from, "tx_too_long"), 4u);
    EXPECT_EQ(count(*from, "tx_packets"), 1u);
  });
}

TEST(Wire, WithoutARouteIsDroppedAndCounted) {
  in_own_thread([] {
    const VethPair veth(1500, false);
    if (!veth.ok()) GTEST_SKIP() << "needs root and iproute2";
    ASSERT_TRUE(veth.enter_left());
    auto from = open_udp(address("10.77.0.1"));
    Burst burst({.source = address("10.77.0.1"), .destination = address("192.0.2.1")});
    for (uint32_t psn = 0; psn < 4; ++psn) burst.add(psn, 1024);
    EXPECT_EQ(from->transmit(burst.span(), 0), 4u);
    EXPECT_EQ(count(*from, "tx_unreachable"), 4u);
  });
}

}  // namespace
}  // namespace flexins::port::testing
