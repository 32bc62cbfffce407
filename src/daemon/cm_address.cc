#include "daemon/cm_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"

namespace flexins::daemon {

bool CmAddress::any() const {
  const auto begin = ip.is_v4() ? ip.bytes.begin() + 12 : ip.bytes.begin();
  return std::all_of(begin, ip.bytes.end(), [](uint8_t byte) { return byte == 0; });
}

bool CmAddress::loopback() const {
  if (ip.is_v4()) return ip.bytes[12] == 127;
  return ip.bytes.back() == 1 &&
         std::all_of(ip.bytes.begin(), ip.bytes.end() - 1, [](uint8_t byte) { return byte == 0; });
}

std::optional<CmAddress> read_sockaddr(std::span<const std::byte> bytes) {
  sa_family_t family = AF_UNSPEC;
  if (bytes.size() < sizeof family) return std::nullopt;
  std::memcpy(&family, bytes.data(), sizeof family);
  CmAddress address;
  if (family == AF_INET && bytes.size() >= sizeof(sockaddr_in)) {
    sockaddr_in in;
    std::memcpy(&in, bytes.data(), sizeof in);
    address.ip = wire::IpAddress::from_v4(&in.sin_addr);
    address.port = ntohs(in.sin_port);
    return address;
  }
  if (family == AF_INET6 && bytes.size() >= sizeof(sockaddr_in6)) {
    sockaddr_in6 in6;
    std::memcpy(&in6, bytes.data(), sizeof in6);
    address.ip = wire::IpAddress::from_v6(&in6.sin6_addr);
    address.port = ntohs(in6.sin6_port);
    address.v6 = !address.ip.is_v4();
    return address;
  }
  return std::nullopt;
}

size_t write_sockaddr(const CmAddress& address, void* out) {
  if (!address.v6) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(address.port);
    if (address.ip.is_v4()) std::memcpy(&in.sin_addr, address.ip.v4_bytes(), sizeof in.sin_addr);
    std::memcpy(out, &in, sizeof in);
    return sizeof in;
  }
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(address.port);
  std::memcpy(&in6.sin6_addr, address.ip.bytes.data(), sizeof in6.sin6_addr);
  std::memcpy(out, &in6, sizeof in6);
  return sizeof in6;
}

bool overlap(const CmAddress& a, const CmAddress& b) {
  // "Any" of IPv6 takes IPv4 too.
  if ((a.any() && a.v6) || (b.any() && b.v6)) return true;
  if (a.v6 != b.v6) return false;
  return a.any() || b.any() || a.ip == b.ip;
}

base::Result<wire::IpAddress> KernelRoutes::source_for(const wire::IpAddress& destination) {
  CmAddress to;
  to.ip = destination;
  to.v6 = !destination.is_v4();
  to.port = wire::kRocePort;
  sockaddr_in6 storage{};
  socklen_t length = static_cast<socklen_t>(write_sockaddr(to, &storage));
  const base::UniqueFd probe(::socket(to.v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // Connecting a datagram socket sends nothing: it only looks the route up.
  if (!probe.valid() ||
      ::connect(probe.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0) {
    return base::Error{errno, std::string("no route: ") + std::strerror(errno)};
  }
  sockaddr_in6 own{};
  length = sizeof own;
  if (::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&own), &length) != 0) {
    return base::Error{errno, std::string("no route: ") + std::strerror(errno)};
  }
  const auto source = read_sockaddr(std::as_bytes(std::span(&own, 1)));
  if (!source) return base::Error{EAFNOSUPPORT, "no IP address"};
  return source->ip;
}

}  // namespace flexins::daemon
