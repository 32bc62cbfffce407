#include "wire/icrc.h"

#include <isa-l/crc.h>

#include <array>
#include <cstring>

#include "base/byte_order.h"
#include "base/check.h"

/// A CRC register of 32 bits is a polynomial over GF(2) of degree < 32, held reflected: bit 31 is
/// the coefficient of x^0. A message byte moves it on by x^8 modulo P. That is linear and, as P has
/// a constant term, can be undone; icrc_check uses it.

namespace flexins::wire {

namespace {

using base::store_be;

constexpr uint32_t kPolynomial = 0xedb8'8320;  // CRC-32, reflected, x^32 left out
constexpr uint32_t kOne = 0x8000'0000;         // the polynomial 1

constexpr size_t kBthBytes = 12;
constexpr size_t kIcrcBytes = 4;
constexpr size_t kBthMaskedByte = 4;
constexpr size_t kIpv4Bytes = 20;
constexpr size_t kIpv6Bytes = 40;
constexpr size_t kUdpBytes = 8;
constexpr uint8_t kProtocolUdp = 17;
constexpr uint16_t kDontFragment = 0x4000;
/// In IPv4, identification, flags and fragment offset are one aligned word here.
constexpr size_t kIpv4WordOffset = 4;

/// Value times x^-1.
constexpr uint32_t divide_by_x(uint32_t value) {
  // Multiplying by x shifts right and folds the bit that falls out by P, whose own bit 31 (x^0) is
  // set: that bit tells afterwards whether it was folded.
  return (value & kOne) != 0 ? ((value ^ kPolynomial) << 1 | 1) : value << 1;
}

constexpr uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (int bit = 31; bit >= 0; --bit) {
    product ^= b & (0U - (a >> bit & 1));
    b = b >> 1 ^ (kPolynomial & (0U - (b & 1)));
  }
  return product;
}

/// RoCE packets are whole words; the table reaches past the largest one of MTU 4096 in IPv4.
constexpr size_t kRewindWords = 1088;

/// Entry n is x^(-32 n): it takes a register back by n words.
constexpr auto make_rewind_table() {
  std::array<uint32_t, kRewindWords> table{};
  uint32_t power = kOne;
  for (auto& entry : table) {
    entry = power;
    for (int i = 0; i < 32; ++i) power = divide_by_x(power);
  }
  return table;
}

constexpr std::array<uint32_t, kRewindWords> kRewind = make_rewind_table();

/// The register as it was `bytes` bytes earlier, had all of them been zero.
uint32_t rewind(uint32_t value, size_t bytes) {
  for (; bytes % 4 != 0; --bytes) {
    for (int i = 0; i < 8; ++i) value = divide_by_x(value);
  }
  size_t words = bytes / 4;
  for (; words >= kRewindWords; words -= kRewindWords - 1) {
    value = multiply(value, kRewind[kRewindWords - 1]);
  }
  return multiply(value, kRewind[words]);
}

constexpr uint32_t crc_of_eight_ones() {
  uint32_t value = ~0U;
  for (int byte = 0; byte < 8; ++byte) {
    value ^= 0xff;
    for (int i = 0; i < 8; ++i) value = value >> 1 ^ (kPolynomial & (0U - (value & 1)));
  }
  return ~value;
}

/// Stands for the eight bytes of ones (InfiniBand's local route header) in front of the packet.
constexpr uint32_t kSeed = crc_of_eight_ones();

uint32_t add_bytes(uint32_t running, const void* bytes, size_t length) {
  // isa-l inverts on the way in and out, as zlib does: results chain as they are.
  return ::crc32_gzip_refl(running, static_cast<const unsigned char*>(bytes), length);
}

/// Writes the IP header with the fields that change under way as ones; returns its bytes.
size_t write_masked_ip(const OuterHeaders& outer, uint16_t udp_bytes, std::byte* out) {
  if (outer.destination.is_v4()) {
    store_be<uint16_t>(out, 0x45ff);  // version, header length; type of service
    store_be<uint16_t>(out + 2, static_cast<uint16_t>(kIpv4Bytes + udp_bytes));
    store_be<uint16_t>(out + 4, outer.identification);
    store_be<uint16_t>(out + 6, outer.dont_fragment ? kDontFragment : 0);
    store_be<uint16_t>(out + 8, 0xff00 | kProtocolUdp);  // time to live; protocol
    store_be<uint16_t>(out + 10, 0xffff);                // checksum
    std::memcpy(out + 12, outer.source.v4_bytes(), 4);
    std::memcpy(out + 16, outer.destination.v4_bytes(), 4);
    return kIpv4Bytes;
  }
  store_be<uint32_t>(out, 0x6fff'ffff);  // version; traffic class, flow label
  store_be<uint16_t>(out + 4, udp_bytes);
  store_be<uint16_t>(out + 6, kProtocolUdp << 8 | 0xff);  // next header; hop limit
  std::memcpy(out + 8, outer.source.bytes.data(), 16);
  std::memcpy(out + 24, outer.destination.bytes.data(), 16);
  return kIpv6Bytes;
}

}  // namespace

uint32_t icrc_begin(const OuterHeaders& outer,
                    std::span<const std::byte> transport_header) noexcept {
  FLEXINS_CHECK(transport_header.size() >= kBthBytes);
  std::array<std::byte, kIpv6Bytes + kUdpBytes + kBthBytes> masked;
  const auto udp_bytes = static_cast<uint16_t>(kUdpBytes + outer.transport_bytes);
  std::byte* at = masked.data();
  at += write_masked_ip(outer, udp_bytes, at);
  store_be<uint16_t>(at, outer.source_port);
  store_be<uint16_t>(at + 2, outer.destination_port);
  store_be<uint16_t>(at + 4, udp_bytes);
  store_be<uint16_t>(at + 6, 0xffff);  // checksum
  at += kUdpBytes;
  std::memcpy(at, transport_header.data(), kBthBytes);
  at[kBthMaskedByte] = std::byte{0xff};
  at += kBthBytes;
  const uint32_t running = add_bytes(kSeed, masked.data(), static_cast<size_t>(at - masked.data()));
  return icrc_add(running, transport_header.subspan(kBthBytes));
}

uint32_t icrc_add(uint32_t running, std::span<const std::byte> bytes) noexcept {
  return bytes.empty() ? running : add_bytes(running, bytes.data(), bytes.size());
}

uint32_t icrc_finish(uint32_t running) noexcept { return running; }

IcrcVerdict icrc_check(const OuterHeaders& outer, std::span<const std::byte> packet,
                       uint16_t& identification) noexcept {
  if (packet.size() < kBthBytes + kIcrcBytes) return IcrcVerdict::kWrong;
  const auto body = packet.first(packet.size() - kIcrcBytes);
  std::array<uint8_t, kIcrcBytes> stored;
  std::memcpy(stored.data(), packet.data() + body.size(), kIcrcBytes);
  const uint32_t received =
      uint32_t{stored[3]} << 24 | uint32_t{stored[2]} << 16 | uint32_t{stored[1]} << 8 | stored[0];
  const uint32_t difference = icrc_finish(icrc_begin(outer, body)) ^ received;
  if (difference == 0) return IcrcVerdict::kExact;
  if (!outer.destination.is_v4()) return IcrcVerdict::kWrong;

  // Had the sender's word (identification, flags) differed from ours by `d` and nothing else, the
  // register would differ by exactly `d` just before that word goes in (its first byte in the low
  // bits), and from there on would only have been moved: so move the difference back to there.
  const uint32_t word = rewind(difference, kIpv4Bytes - kIpv4WordOffset + kUdpBytes + body.size());
  const uint32_t flags = word >> 16;
  if (flags != 0 && flags != kDontFragment >> 8) return IcrcVerdict::kWrong;
  identification =
      static_cast<uint16_t>(outer.identification ^ ((word & 0xff) << 8 | (word >> 8 & 0xff)));
  return IcrcVerdict::kPlausible;
}

}  // namespace flexins::wire
