#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "wire/address.h"
#include "wire/icrc.h"

/// Ethernet, IP and UDP around a RoCEv2 packet: for captures, for ports that see whole frames and
/// for tests. A UDP socket needs none of it.

namespace flexins::wire {

inline constexpr size_t kEthernetBytes = 14;
inline constexpr size_t kIpv4HeaderBytes = 20;
inline constexpr size_t kIpv6HeaderBytes = 40;
inline constexpr size_t kUdpHeaderBytes = 8;
inline constexpr uint16_t kEtherTypeIpv4 = 0x0800;
inline constexpr uint16_t kEtherTypeIpv6 = 0x86dd;
inline constexpr uint16_t kIpv4DontFragment = 0x4000;

struct EthernetHeader {
  std::array<uint8_t, 6> destination{};
  std::array<uint8_t, 6> source{};
  uint16_t ether_type = kEtherTypeIpv4;
};

/// IP and UDP of one unfragmented datagram. Both addresses are of one family, which decides between
/// IPv4 (no options) and IPv6 (no extension headers).
struct DatagramHeaders {
  IpAddress source;
  IpAddress destination;
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 64;
  uint16_t identification = 0;                  ///< IPv4 only
  uint16_t flags_fragment = kIpv4DontFragment;  ///< IPv4 only: flags and fragment offset
  uint32_t flow_label = 0;                      ///< IPv6 only, 20 bits
  uint16_t source_port = 0;
  uint16_t destination_port = kRocePort;
  uint16_t payload_bytes = 0;  ///< behind the UDP header
  uint16_t udp_checksum = 0;   ///< as on the wire; RoCEv2 senders leave it 0
};

enum class InternetError : uint8_t {
  kNone,
  kTooShort,     ///< shorter than its headers or than its length fields say
  kNotIp,        ///< neither IPv4 without options nor IPv6 without mapped IPv4 addresses
  kBadChecksum,  ///< IPv4 header checksum
  kFragment,     ///< a part of a datagram
  kNotUdp,
  kBadLength,  ///< IP and UDP length disagree
};
[[nodiscard]] std::string_view to_string(InternetError error);

/// Reads the header at the front of `frame`; false if it is shorter than one.
[[nodiscard]] bool parse_ethernet(std::span<const std::byte> frame, EthernetHeader& out) noexcept;
/// Returns bytes written. `out` holds at least kEthernetBytes.
size_t emit_ethernet(const EthernetHeader& header, std::span<std::byte> out) noexcept;

/// Reads IP and UDP at the front of `packet`; the UDP checksum is not verified. On success
/// `payload` is what the UDP header encloses (bytes of link padding are left out).
[[nodiscard]] InternetError parse_datagram(std::span<const std::byte> packet, DatagramHeaders& out,
                                           std::span<const std::byte>& payload) noexcept;

/// Bytes of IP and UDP that emit_datagram writes for these addresses.
[[nodiscard]] size_t datagram_header_bytes(const DatagramHeaders& headers) noexcept;
/// Writes IP (with its checksum) and UDP; returns bytes written. `out` holds at least
/// datagram_header_bytes().
size_t emit_datagram(const DatagramHeaders& headers, std::span<std::byte> out) noexcept;

/// What the ICRC needs of `headers`.
[[nodiscard]] OuterHeaders outer_headers(const DatagramHeaders& headers) noexcept;

/// The Internet checksum (RFC 1071) of `bytes`, an even number of them; 0 over a header that holds
/// its right checksum.
[[nodiscard]] uint16_t internet_checksum(std::span<const std::byte> bytes) noexcept;

}  // namespace flexins::wire
