#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

namespace flexins::wire {

/// RoCEv2's UDP destination port (IANA).
inline constexpr uint16_t kRocePort = 4791;

/// An IP address; IPv4 is held mapped (::ffff:a.b.c.d), as in a GID.
struct IpAddress {
  std::array<uint8_t, 16> bytes{};

  friend bool operator==(const IpAddress&, const IpAddress&) = default;
  [[nodiscard]] bool is_v4() const {
    static constexpr uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::memcmp(bytes.data(), kPrefix, sizeof kPrefix) == 0;
  }
  /// Whether it names a group: 224.0.0.0/4 or ff00::/8.
  [[nodiscard]] bool is_multicast() const {
    return is_v4() ? (bytes[12] & 0xf0) == 0xe0 : bytes[0] == 0xff;
  }
  /// What a GID names. The two ways to write an IPv4 group are one: ::ffff:a.b.c.d and
  /// ff0e::ffff:a.b.c.d.
  static IpAddress from_gid(const void* gid) {
    static constexpr uint8_t kGlobalMappedGroup[12] = {0xff, 0x0e, 0, 0, 0,    0,
                                                       0,    0,    0, 0, 0xff, 0xff};
    if (std::memcmp(gid, kGlobalMappedGroup, sizeof kGlobalMappedGroup) != 0) return from_v6(gid);
    const IpAddress group = from_v4(static_cast<const uint8_t*>(gid) + sizeof kGlobalMappedGroup);
    return group.is_multicast() ? group : from_v6(gid);
  }
  template <typename H>
  friend H AbslHashValue(H h, const IpAddress& a) {
    return H::combine_contiguous(std::move(h), a.bytes.data(), a.bytes.size());
  }
  /// The four address bytes in network order. Only where is_v4().
  [[nodiscard]] const uint8_t* v4_bytes() const { return bytes.data() + 12; }
  /// `octets`: 4 bytes in network order.
  static IpAddress from_v4(const void* octets) {
    IpAddress a;
    a.bytes[10] = a.bytes[11] = 0xff;
    std::memcpy(a.bytes.data() + 12, octets, 4);
    return a;
  }
  /// `octets`: 16 bytes in network order.
  static IpAddress from_v6(const void* octets) {
    IpAddress a;
    std::memcpy(a.bytes.data(), octets, 16);
    return a;
  }
};

}  // namespace flexins::wire
