#include "wire/ip_cm.h"

#include <algorithm>

#include "base/byte_order.h"

namespace flexins::wire {
namespace {

constexpr uint64_t kServicePrefix = 0x01;
constexpr size_t kPortAt = 2;
constexpr size_t kSourceAt = 4;
constexpr size_t kDestinationAt = 20;
/// An IPv4 address stands in the last of sixteen bytes, zeros before it.
constexpr size_t kV4At = 12;

bool read_address(const uint8_t* at, bool v4, IpAddress& out) {
  if (!v4) {
    out = IpAddress::from_v6(at);
    return true;
  }
  out = IpAddress::from_v4(at + kV4At);
  return std::all_of(at, at + kV4At, [](uint8_t byte) { return byte == 0; });
}

void write_address(const IpAddress& address, uint8_t* at) {
  std::copy(address.bytes.begin(), address.bytes.end(), at);
  if (address.is_v4()) std::fill(at, at + kV4At, uint8_t{0});
}

}  // namespace

uint64_t ip_cm_service_id(IpCmSpace space, uint16_t port) noexcept {
  return kServicePrefix << 24 | uint64_t{static_cast<uint8_t>(space)} << 16 | port;
}

std::optional<IpCmService> parse_ip_cm_service(uint64_t service_id) noexcept {
  if (service_id >> 24 != kServicePrefix) return std::nullopt;
  const auto space = static_cast<IpCmSpace>(service_id >> 16 & 0xff);
  if (space != IpCmSpace::kTcp && space != IpCmSpace::kUdp) return std::nullopt;
  return IpCmService{space, static_cast<uint16_t>(service_id)};
}

bool parse_ip_cm(std::span<const uint8_t> bytes, IpCmHeader& out) noexcept {
  if (bytes.size() < kIpCmHeaderBytes) return false;
  const uint8_t ip_version = bytes[1] >> 4;
  if (bytes[0] != 0 || (ip_version != 4 && ip_version != 6)) return false;
  out.source_port = base::load_be<uint16_t>(bytes.data() + kPortAt);
  const bool v4 = ip_version == 4;
  // An IPv4 address in the clothes of IPv6 would be another one on the way back.
  return read_address(bytes.data() + kSourceAt, v4, out.source) &&
         read_address(bytes.data() + kDestinationAt, v4, out.destination) &&
         out.source.is_v4() == v4 && out.destination.is_v4() == v4;
}

void emit_ip_cm(const IpCmHeader& header, std::span<uint8_t, kIpCmHeaderBytes> out) noexcept {
  out[0] = 0;
  out[1] = static_cast<uint8_t>((header.source.is_v4() ? 4 : 6) << 4);
  base::store_be<uint16_t>(out.data() + kPortAt, header.source_port);
  write_address(header.source, out.data() + kSourceAt);
  write_address(header.destination, out.data() + kDestinationAt);
}

}  // namespace flexins::wire
