#include "port/udp_port.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/udp.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>

#include "namespaces.h"
#include "port/interface.h"
#include "port/udp_socket.h"
#include "support.h"

namespace flexins::port::testing {
namespace {

using ::testing::HasSubstr;

class Udp : public ::testing::Test {
 protected:
  void SetUp() override {
    from_ = open(loopback(0));
    to_ = open(loopback(1));
  }

  static std::unique_ptr<UdpPort> open(const wire::IpAddress& address, UdpPortConfig config = {}) {
    config.addresses = {address};
    auto port = UdpPort::open(config);
    EXPECT_TRUE(port.ok()) << port.error().message;
    return std::move(*port);
  }

  /// Sends raw bytes to the receiving port, from its own host.
  void send_datagram(std::span<const std::byte> bytes) {
    uint16_t port = 0;
    auto fd = open_transmit_socket(loopback(2), port);
    ASSERT_TRUE(fd.ok());
    const SocketAddress to = to_socket_address(loopback(1), wire::kRocePort, 0);
    ASSERT_EQ(sendto(fd->get(), bytes.data(), bytes.size(), 0, to.get(), to.length),
              static_cast<ssize_t>(bytes.size()));
  }

  wire::Path path_{.source = loopback(0), .destination = loopback(1)};
  std::unique_ptr<UdpPort> from_, to_;
};

TEST_F(Udp, ATrainIsOneDatagram) {
  Burst burst(path_);
  for (uint32_t psn = 0; psn < 15; ++psn) burst.add(psn, 4096);
  EXPECT_EQ(exchange(*from_, *to_, burst.span(), 15).size(), 15u);
  EXPECT_EQ(count(*from_, "tx_datagrams"), 1u);
  EXPECT_EQ(count(*from_, "tx_trains"), 1u);
  EXPECT_EQ(count(*to_, "rx_trains"), 1u);
  EXPECT_EQ(count(*to_, "rx_packets"), 15u);
  EXPECT_EQ(count(*to_, "icrc_exact"), 15u);
}

TEST_F(Udp, LargePayloadsAreReadOnceAndNeverCopied) {
  Burst burst(path_);
  for (uint32_t psn = 0; psn < 15; ++psn) burst.add(psn, 4096);
  from_->transmit(burst.span(), 0);
  EXPECT_EQ(count(*from_, "payload_bytes_copied"), 0u);
  EXPECT_EQ(count(*from_, "payload_bytes_read"), 15u * 4096);
  auto without_icrc = open(loopback(3), {.addresses = {}, .icrc = false});
  Burst other({.source = loopback(3), .destination = loopback(1)});
  for (uint32_t psn = 0; psn < 15; ++psn) other.add(psn, 4096);
  without_icrc->transmit(other.span(), 0);
  EXPECT_EQ(count(*without_icrc, "payload_bytes_copied"), 0u);
  EXPECT_EQ(count(*without_icrc, "payload_bytes_read"), 0u);
}

TEST_F(Udp, CopiesEveryPayloadWhereTold) {
  auto copying = open(loopback(3), {.addresses = {}, .copy_payload_bytes = wire::kMaxMtuBytes});
  Burst burst({.source = loopback(3), .destination = loopback(1)});
  for (uint32_t psn = 0; psn < 15; ++psn) burst.add(psn, 4096);
  EXPECT_EQ(exchange(*copying, *to_, burst.span(), 15).size(), 15u);
  EXPECT_EQ(count(*copying, "payload_bytes_copied"), 15u * 4096);
}

TEST_F(Udp, Ipv6WithoutUdpChecksumIsReceived) {
  UdpPortConfig config;
  config.addresses = {loopback_v6()};
  auto to = UdpPort::open(config);
  if (!to) GTEST_SKIP() << to.error().message;  // the only one, another process may have it
  uint16_t port = 0;
  auto fd = open_transmit_socket(loopback_v6(), port);
  ASSERT_TRUE(fd.ok());
  const int on = 1;
  ASSERT_EQ(setsockopt(fd->get(), IPPROTO_UDP, UDP_NO_CHECK6_TX, &on, sizeof on), 0);
  const SocketAddress at = to_socket_address(loopback_v6(), wire::kRocePort, 0);
  const std::array<char, 8> bytes{};
  ASSERT_EQ(sendto(fd->get(), bytes.data(), bytes.size(), 0, at.get(), at.length), 8);
  EXPECT_TRUE(receive_all(**to, 0).empty());
  EXPECT_EQ(count(**to, "rx_too_short"), 1u);
}

TEST_F(Udp, GarbageIsCountedAndDropped) {
  std::vector<std::byte> bytes(5000, std::byte{0x5a});
  for (const size_t length : {0u, 1u, 15u}) send_datagram({bytes.data(), length});
  for (const size_t length : {16u, 64u, 4096u}) send_datagram({bytes.data(), length});
  send_datagram(bytes);
  EXPECT_TRUE(receive_all(*to_, 0).empty());
  EXPECT_EQ(count(*to_, "rx_too_short"), 3u);
  EXPECT_EQ(count(*to_, "icrc_wrong"), 3u);
  EXPECT_EQ(count(*to_, "rx_too_long"), 1u);
  Burst burst(path_);
  burst.add(1, 100);
  EXPECT_EQ(exchange(*from_, *to_, burst.span(), 1).size(), 1u);
}

/// Notes every drop it is told of.
class Notes final : public DropObserver {
 public:
  void transmit_dropped(const wire::TxPacket&, std::string_view reason,
                        base::TimeNs) noexcept override {
    transmitted.emplace_back(reason);
  }
  void receive_dropped(const wire::RxPacket&, std::string_view reason,
                       base::TimeNs) noexcept override {
    received.emplace_back(reason);
  }
  std::vector<std::string> transmitted, received;
};

/// A mapping whose second half can be taken away.
class Vanishing {
 public:
  static constexpr size_t kHalf = 8192;
  Vanishing() : fd_(memfd_create("vanishing", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(fd_.get(), 2 * kHalf), 0);
    memory_ = static_cast<std::byte*>(
        mmap(nullptr, 2 * kHalf, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
    EXPECT_NE(memory_, MAP_FAILED);
  }
  ~Vanishing() { munmap(memory_, 2 * kHalf); }
  void vanish() { EXPECT_EQ(ftruncate(fd_.get(), kHalf), 0); }
  std::byte* gone() { return memory_ + kHalf; }

 private:
  base::UniqueFd fd_;
  std::byte* memory_;
};

void vanished_memory_is_dropped(UdpPort& from, UdpPort& to, const wire::Path& path,
                                uint32_t length) {
  Notes notes;
  from.observe_drops(&notes);
  Vanishing vanishing;
  vanishing.vanish();
  for (const uint32_t bad : {0u, 4u, 9u}) {
    Burst burst(path);
    for (uint32_t psn = 0; psn < 10; ++psn) {
      wire::TxPacket& packet = burst.add(psn, length);
      if (psn == bad) packet.pieces[0].iov_base = vanishing.gone();
    }
    const auto arrived = exchange(from, to, burst.span(), 9);
    ASSERT_EQ(arrived.size(), 9u);
    for (const Arrived& one : arrived) {
      EXPECT_NE(one.psn, bad);
      EXPECT_TRUE(one.has_pattern(length));
    }
  }
  EXPECT_EQ(count(from, "tx_memory_gone"), 3u);
  EXPECT_EQ(count(from, "tx_packets"), 27u);
  EXPECT_EQ(notes.transmitted, std::vector<std::string>(3, "memory gone"));
  from.observe_drops(nullptr);
}

TEST_F(Udp, VanishedMemoryCostsItsPacketOnly) {
  vanished_memory_is_dropped(*from_, *to_, path_, 4096);
}
TEST_F(Udp, VanishedMemoryCostsItsPacketOnlyWhenCopied) {
  vanished_memory_is_dropped(*from_, *to_, path_, 256);
}
TEST_F(Udp, VanishedMemoryCostsItsPacketOnlyWhenTheKernelFinds) {
  from_ = nullptr;
  to_ = nullptr;
  auto from = open(loopback(0), {.addresses = {}, .icrc = false});
  auto to = open(loopback(1), {.addresses = {}, .icrc = false});
  vanished_memory_is_dropped(*from, *to, path_, 4096);
}

TEST_F(Udp, OverflowOfASmallReceiveBufferIsCounted) {
  to_ = nullptr;
  to_ = open(loopback(1), {.addresses = {}, .receive_buffer_bytes = 32768});
  Burst burst(path_);
  for (uint32_t psn = 0; psn < 200; ++psn) burst.add(psn, psn % 2 == 0 ? 2048 : 2040);
  ASSERT_EQ(from_->transmit(burst.span(), 0), 200u);
  const auto arrived = receive_all(*to_, 0);
  EXPECT_LT(arrived.size(), 200u);
  EXPECT_GT(count(*to_, "socket_drops"), 0u);
  // The odd ones are shorter: pairs travel together.
  EXPECT_EQ(arrived.size() + 2 * count(*to_, "socket_drops"), 200u);
}

TEST_F(Udp, HoldsWhatItSaysInLonePackets) {
  to_ = nullptr;
  to_ = open(loopback(1), {.addresses = {}, .receive_buffer_bytes = 106496});
  for (const uint32_t length : {4096u, 2048u, 1024u}) {
    const uint64_t packets = to_->capabilities().receive_buffer_bytes / length;
    ASSERT_GT(packets, 10u);
    Burst burst(path_);
    for (uint32_t psn = 0; psn < packets; ++psn) {
      burst.clear();
      burst.add(psn, length);
      ASSERT_EQ(from_->transmit(burst.span(), 0), 1u);
    }
    EXPECT_EQ(receive_all(*to_, packets).size(), packets) << length;
  }
  EXPECT_EQ(count(*to_, "socket_drops"), 0u);
}

TEST_F(Udp, AnAddressInUseIsNamed) {
  UdpPortConfig config;
  config.addresses = {loopback(1)};
  const auto second = UdpPort::open(config);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_THAT(second.error().message, HasSubstr(to_string(loopback(1))));
  EXPECT_THAT(second.error().message, HasSubstr("4791"));
}

TEST_F(Udp, AnAddressOfSomebodyElseIsNamed) {
  UdpPortConfig config;
  config.addresses = {parse_address("192.0.2.77").value()};
  const auto port = UdpPort::open(config);
  ASSERT_FALSE(port.ok());
  EXPECT_EQ(port.error().code, EADDRNOTAVAIL);
  EXPECT_THAT(port.error().message, HasSubstr("192.0.2.77"));
}

TEST_F(Udp, NonsenseInTheConfigurationIsRefused) {
  EXPECT_EQ(UdpPort::open({}).error().code, EINVAL);
  for (UdpPortConfig config :
       {UdpPortConfig{.addresses = {}, .flows_per_address = 0},
        UdpPortConfig{.addresses = {}, .flows_per_address = 65},
        UdpPortConfig{.addresses = {}, .receive_buffers = 0},
        UdpPortConfig{.addresses = {}, .receive_buffers = 65},
        UdpPortConfig{.addresses = {}, .receive_buffer_bytes = 1ull << 40}}) {
    config.addresses = {loopback(2)};
    EXPECT_EQ(UdpPort::open(config).error().code, EINVAL);
  }
}

TEST_F(Udp, AForeignSourceAddressIsDroppedAndCounted) {
  Burst burst({.source = loopback(3), .destination = loopback(1)});
  burst.add(0, 8);
  EXPECT_EQ(from_->transmit(burst.span(), 0), 1u);
  EXPECT_EQ(count(*from_, "tx_no_source"), 1u);
}

TEST_F(Udp, OnePortServesSeveralAddresses) {
  from_ = nullptr;
  UdpPortConfig config;
  config.addresses = {loopback(0), loopback(2)};
  auto port = UdpPort::open(config);
  ASSERT_TRUE(port.ok());
  EXPECT_EQ((*port)->poll_fds().size(), 1u);
  std::vector<Arrived> all;
  for (const unsigned number : {0u, 2u}) {
    Burst burst({.source = loopback(1), .destination = loopback(number)});
    burst.add(number, 300);
    ASSERT_EQ(to_->transmit(burst.span(), 0), 1u);
  }
  for (const Arrived& one : receive_all(**port, 2)) {
    EXPECT_EQ(one.destination, loopback(one.psn));
  }
  EXPECT_EQ(count(**port, "rx_packets"), 2u);
}

TEST_F(Udp, FlowsSpreadOverSourcePorts) {
  for (uint16_t flow = 0; flow < 16; ++flow) {
    wire::Path path = path_;
    path.source_port = static_cast<uint16_t>(0xc000 + flow);
    Burst burst(path);
    burst.add(flow, 64);
    EXPECT_EQ(exchange(*from_, *to_, burst.span(), 1).size(), 1u);
  }
  EXPECT_EQ(count(*to_, "icrc_exact"), 16u);
}

TEST(Interface, LoopbackPrefixBelongsToLoopback) {
  const auto lo = interface_of(loopback(3));
  ASSERT_TRUE(lo.ok());
  EXPECT_EQ(lo.value().name, "lo");
  EXPECT_TRUE(lo.value().loopback);
  EXPECT_GE(lo.value().mtu_bytes, 1500u);
  EXPECT_EQ(interface_of(parse_address("192.0.2.77").value()).error().code, EADDRNOTAVAIL);
}

TEST(Interface, FreshLinkRunsAtOnce) {
  if (geteuid() != 0) GTEST_SKIP() << "network namespaces need root";
  in_own_thread([] {
    // Several: the kernel tells of one change of a link in a second without delay.
    for (int i = 0; i < 3; ++i) {
      const VethPair veth(1500, false);
      if (!veth.ok()) return;
      const auto running = [] {
        const auto found = interface_of(parse_address("10.77.0.1").value());
        return found.ok() && found.value().running;
      };
      ASSERT_TRUE(veth.enter_left());
      EXPECT_TRUE(running());
      ASSERT_TRUE(veth.enter_right());
      ASSERT_TRUE(VethPair::run("ip link set right down"));
      ASSERT_TRUE(veth.enter_left());
      EXPECT_FALSE(running());
    }
  });
}

TEST(Interface, AddressesOfAllInterfaces) {
  const auto all = interface_addresses();
  ASSERT_TRUE(all.ok());
  bool has_loopback = false;
  for (const auto& one : all.value()) has_loopback |= to_string(one.address) == "127.0.0.1";
  EXPECT_TRUE(has_loopback);
}

TEST(Interface, RoceMtu) {
  EXPECT_EQ(roce_mtu_bytes(65536), 4096u);
  EXPECT_EQ(roce_mtu_bytes(9000), 4096u);
  EXPECT_EQ(roce_mtu_bytes(4200), 4096u);
  EXPECT_EQ(roce_mtu_bytes(4183), 2048u);
  EXPECT_EQ(roce_mtu_bytes(1500), 1024u);
  EXPECT_EQ(roce_mtu_bytes(1280), 1024u);
  EXPECT_EQ(roce_mtu_bytes(576), 256u);
  EXPECT_EQ(roce_mtu_bytes(300), 0u);
}

TEST(Interface, AddressesAsText) {
  for (const char* text : {"10.1.2.3", "fe80::1", "::1", "2001:db8::7"}) {
    EXPECT_EQ(to_string(parse_address(text).value()), text);
  }
  EXPECT_EQ(parse_address("10.1.2").error().code, EINVAL);
}

}  // namespace
}  // namespace flexins::port::testing
