#include "port/interface.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "base/unique_fd.h"
#include "wire/packet.h"

namespace flexins::port {

namespace {

using AddressList = std::unique_ptr<ifaddrs, decltype(&freeifaddrs)>;

base::Result<AddressList> list_addresses() {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) {
    return base::Error{errno, std::string("cannot list network interfaces: ") + strerror(errno)};
  }
  return AddressList(first, freeifaddrs);
}

std::optional<wire::IpAddress> address_of(const sockaddr* generic) {
  if (generic == nullptr) return std::nullopt;
  if (generic->sa_family == AF_INET) {
    sockaddr_in in;
    std::memcpy(&in, generic, sizeof in);
    return wire::IpAddress::from_v4(&in.sin_addr);
  }
  if (generic->sa_family == AF_INET6) {
    sockaddr_in6 in6;
    std::memcpy(&in6, generic, sizeof in6);
    return wire::IpAddress::from_v6(&in6.sin6_addr);
  }
  return std::nullopt;
}

bool is_link_local(const wire::IpAddress& address) {
  return address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
}

/// Whether `address` lies in the IPv4 prefix of `entry`.
bool in_prefix(const wire::IpAddress& address, const ifaddrs& entry) {
  if (!address.is_v4() || entry.ifa_addr == nullptr || entry.ifa_netmask == nullptr ||
      entry.ifa_addr->sa_family != AF_INET) {
    return false;
  }
  sockaddr_in own, mask;
  std::memcpy(&own, entry.ifa_addr, sizeof own);
  std::memcpy(&mask, entry.ifa_netmask, sizeof mask);
  in_addr_t asked;
  std::memcpy(&asked, address.v4_bytes(), sizeof asked);
  return ((own.sin_addr.s_addr ^ asked) & mask.sin_addr.s_addr) == 0;
}

uint32_t mtu_of(const char* name) {
  const base::UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = {};
  std::strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  if (!fd.valid() || ioctl(fd.get(), SIOCGIFMTU, &request) != 0) return 0;
  return static_cast<uint32_t>(request.ifr_mtu);
}

/// IFF_LOWER_UP of <linux/if.h>, which does not go together with <net/if.h>: the carrier as it is
/// now. IFF_RUNNING follows it up to a second late, so that a fresh link would count as down.
constexpr unsigned kLowerUp = 1u << 16;

Interface describe(const ifaddrs& entry) {
  return {.name = entry.ifa_name,
          .index = if_nametoindex(entry.ifa_name),
          .mtu_bytes = mtu_of(entry.ifa_name),
          .up = (entry.ifa_flags & IFF_UP) != 0,
          .running = (entry.ifa_flags & IFF_UP) != 0 && (entry.ifa_flags & kLowerUp) != 0,
          .loopback = (entry.ifa_flags & IFF_LOOPBACK) != 0};
}

}  // namespace

base::Result<Interface> interface_of(const wire::IpAddress& address) {
  auto list = list_addresses();
  if (!list) return list.error();
  for (const ifaddrs* entry = list->get(); entry != nullptr; entry = entry->ifa_next) {
    if (address_of(entry->ifa_addr) == address) return describe(*entry);
  }
  for (const ifaddrs* entry = list->get(); entry != nullptr; entry = entry->ifa_next) {
    if ((entry->ifa_flags & IFF_LOOPBACK) != 0 && in_prefix(address, *entry)) {
      return describe(*entry);
    }
  }
  return base::Error{EADDRNOTAVAIL, "no network interface of this machine has the address " +
                                        to_string(address) +
                                        " (`ip address` lists those that there are)"};
}

base::Result<std::vector<InterfaceAddress>> interface_addresses() {
  auto list = list_addresses();
  if (!list) return list.error();
  std::vector<InterfaceAddress> all;
  for (const ifaddrs* entry = list->get(); entry != nullptr; entry = entry->ifa_next) {
    const auto address = address_of(entry->ifa_addr);
    if (!address || (entry->ifa_flags & IFF_UP) == 0 || is_link_local(*address)) continue;
    all.push_back({describe(*entry), *address});
  }
  return all;
}

uint32_t roce_mtu_bytes(uint32_t interface_mtu_bytes) {
  // IPv6, UDP, then the longest headers that stand before a full payload: BTH, XRCETH, RETH,
  // ImmDt; and the ICRC behind it.
  constexpr uint32_t kOverheadBytes = 40 + 8 + 12 + 4 + 16 + 4 + 4;
  for (uint32_t mtu = wire::kMaxMtuBytes; mtu >= 256; mtu /= 2) {
    if (interface_mtu_bytes >= mtu + kOverheadBytes) return mtu;
  }
  return 0;
}

std::string to_string(const wire::IpAddress& address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.is_v4()) {
    inet_ntop(AF_INET, address.v4_bytes(), text, sizeof text);
  } else {
    inet_ntop(AF_INET6, address.bytes.data(), text, sizeof text);
  }
  return text;
}

base::Result<wire::IpAddress> parse_address(const std::string& text) {
  in6_addr octets;
  if (inet_pton(AF_INET, text.c_str(), &octets) == 1) return wire::IpAddress::from_v4(&octets);
  if (inet_pton(AF_INET6, text.c_str(), &octets) == 1) return wire::IpAddress::from_v6(&octets);
  return base::Error{EINVAL, "\"" + text + "\" is not an IPv4 or IPv6 address"};
}

}  // namespace flexins::port
