#pragma once

#include <array>
#include <cstdint>

namespace flexins::base {

/// What flow rules look at in an Ethernet frame. Bytes as they stand on the wire. Fixed layout: it
/// travels in session messages.
struct FlowKey {
  std::array<uint8_t, 6> destination_mac{};
  std::array<uint8_t, 6> source_mac{};
  std::array<uint8_t, 2> ether_type{};
  uint8_t ip_version = 0;  ///< 4, 6 or 0: not IP
  uint8_t protocol = 0;    ///< of what IP carries
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 0;
  std::array<uint8_t, 2> source_port{};  ///< of TCP and UDP
  std::array<uint8_t, 2> destination_port{};
  std::array<uint8_t, 2> reserved{};
  std::array<uint8_t, 16> source_ip{};  ///< IPv4: the last four bytes
  std::array<uint8_t, 16> destination_ip{};
  std::array<uint8_t, 4> flow_label{};  ///< IPv6
};
static_assert(sizeof(FlowKey) == 60);

/// Which frames a raw packet QP wants: those whose key, masked, is `value`, masked.
struct FlowRule {
  FlowKey value;
  FlowKey mask;
  uint16_t priority = 0;   ///< the rule with the smallest number that fits takes the frame
  uint8_t is_default = 0;  ///< comes after all others, whatever its priority
  uint8_t reserved[5] = {};
};
static_assert(sizeof(FlowRule) == 128);

/// The frames that flow rules took.
struct FlowCounts {
  uint64_t packets = 0;
  uint64_t bytes = 0;  ///< Ethernet headers counted, without the frame check sequence
};

/// Fields of a frame that go into a receive hash; values of `enum ibv_rx_hash_fields`.
enum ReceiveHashFields : uint32_t {
  kHashSourceIpv4 = 1 << 0,
  kHashDestinationIpv4 = 1 << 1,
  kHashSourceIpv6 = 1 << 2,
  kHashDestinationIpv6 = 1 << 3,
  kHashSourcePortTcp = 1 << 4,
  kHashDestinationPortTcp = 1 << 5,
  kHashSourcePortUdp = 1 << 6,
  kHashDestinationPortUdp = 1 << 7,
};
inline constexpr uint32_t kHashAllFields = 0xff;

/// How frames are spread over receive queues: a Toeplitz hash of `fields` under `key`. Fixed
/// layout: it travels in session messages.
struct ReceiveHash {
  std::array<uint8_t, 40> key{};
  uint32_t fields = 0;  ///< ReceiveHashFields; none: all frames hash to 0
  uint32_t reserved = 0;
};
static_assert(sizeof(ReceiveHash) == 48);

}  // namespace flexins::base
