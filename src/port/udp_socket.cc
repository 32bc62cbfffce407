#include "port/udp_socket.h"

#include <linux/sock_diag.h>
#include <netinet/udp.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "port/interface.h"

namespace flexins::port {

namespace {

template <typename T>
bool set(int fd, int level, int option, T value) {
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

base::Error failure(const std::string& what, const wire::IpAddress& address) {
  const int code = errno;
  return {code, what + " for " + to_string(address) + ": " + strerror(code)};
}

base::Result<base::UniqueFd> open_socket(const wire::IpAddress& address) {
  base::UniqueFd fd(socket(address.is_v4() ? AF_INET : AF_INET6,
                           SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP));
  if (!fd.valid()) return failure("cannot open a UDP socket", address);
  if (!address.is_v4()) set(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
  return fd;
}

bool bind_to(int fd, const wire::IpAddress& address, uint16_t port) {
  const SocketAddress at = to_socket_address(address, port, scope_of(address));
  return bind(fd, at.get(), at.length) == 0;
}

base::Error bind_failure(const wire::IpAddress& address) {
  const int code = errno;
  const std::string name = to_string(address);
  if (code == EADDRINUSE) {
    return {code, "UDP port 4791 of " + name +
                      " is in use: another engine (`flexins status`) or the kernel's rdma_rxe "
                      "serves it. Stop that one (`flexins down`) or give this engine another "
                      "address"};
  }
  if (code == EADDRNOTAVAIL) {
    return {code, name + " is not an address of this machine: choose one that `ip address` lists"};
  }
  return {code, "cannot bind UDP port 4791 of " + name + ": " + strerror(code)};
}

/// Multicasts leave by the interface of the source address, as far as unicasts do.
void prepare_for_groups(int fd, const wire::IpAddress& address) {
  const auto found = interface_of(address);
  if (!found) return;
  const auto interface = static_cast<int>(found.value().index);
  if (address.is_v4()) {
    ip_mreqn request = {};
    request.imr_ifindex = interface;
    set(fd, IPPROTO_IP, IP_MULTICAST_IF, request);
    set(fd, IPPROTO_IP, IP_MULTICAST_TTL, 64);
  } else {
    set(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, interface);
    set(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 64);
  }
}

uint16_t bound_port(int fd) {
  SocketAddress at;
  at.length = sizeof at.storage;
  if (getsockname(fd, at.get(), &at.length) != 0) return 0;
  wire::IpAddress address;
  uint16_t port = 0;
  from_socket_address(at.storage, address, port);
  return port;
}

}  // namespace

SocketAddress to_socket_address(const wire::IpAddress& address, uint16_t port,
                                uint32_t scope_id) noexcept {
  SocketAddress to;
  if (address.is_v4()) {
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, address.v4_bytes(), sizeof in.sin_addr);
    std::memcpy(&to.storage, &in, sizeof in);
    to.length = sizeof in;
  } else {
    sockaddr_in6 in6 = {};
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(port);
    in6.sin6_scope_id = scope_id;
    std::memcpy(&in6.sin6_addr, address.bytes.data(), sizeof in6.sin6_addr);
    std::memcpy(&to.storage, &in6, sizeof in6);
    to.length = sizeof in6;
  }
  return to;
}

void from_socket_address(const sockaddr_storage& from, wire::IpAddress& address,
                         uint16_t& port) noexcept {
  if (from.ss_family == AF_INET) {
    sockaddr_in in;
    std::memcpy(&in, &from, sizeof in);
    address = wire::IpAddress::from_v4(&in.sin_addr);
    port = ntohs(in.sin_port);
  } else {
    sockaddr_in6 in6;
    std::memcpy(&in6, &from, sizeof in6);
    address = wire::IpAddress::from_v6(&in6.sin6_addr);
    port = ntohs(in6.sin6_port);
  }
}

uint32_t scope_of(const wire::IpAddress& address) {
  if (address.bytes[0] != 0xfe || (address.bytes[1] & 0xc0) != 0x80) return 0;
  const auto interface = interface_of(address);
  return interface ? interface.value().index : 0;
}

namespace {

/// What both kinds of receiving sockets have in common.
void prepare_to_receive(int fd, const wire::IpAddress& address, uint64_t receive_buffer_bytes) {
  // Twice this is granted. Without the privilege for FORCE, up to net.core.rmem_max.
  const int wanted = static_cast<int>(receive_buffer_bytes);
  if (!set(fd, SOL_SOCKET, SO_RCVBUFFORCE, wanted)) set(fd, SOL_SOCKET, SO_RCVBUF, wanted);
  set(fd, IPPROTO_UDP, UDP_GRO, 1);
  if (address.is_v4()) {
    set(fd, IPPROTO_IP, IP_RECVTOS, 1);
    set(fd, IPPROTO_IP, IP_RECVTTL, 1);
  } else {
    set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    // Soft-RoCE and most adapters send no UDP checksum: the ICRC covers more.
    set(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1);
  }
}

}  // namespace

base::Result<base::UniqueFd> open_receive_socket(const wire::IpAddress& address,
                                                 uint64_t receive_buffer_bytes) {
  auto opened = open_socket(address);
  if (!opened) return opened;
  prepare_to_receive(opened->get(), address, receive_buffer_bytes);
  if (!bind_to(opened->get(), address, wire::kRocePort)) return bind_failure(address);
  return opened;
}

base::Result<base::UniqueFd> open_group_socket(const wire::IpAddress& group,
                                               std::span<const uint32_t> interfaces,
                                               uint64_t receive_buffer_bytes) {
  auto opened = open_socket(group);
  if (!opened) return opened;
  const int fd = opened->get();
  prepare_to_receive(fd, group, receive_buffer_bytes);
  // Other engines of this host may be in the group too.
  set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  const bool v4 = group.is_v4();
  set(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MULTICAST_ALL : IPV6_MULTICAST_ALL, 0);
  const SocketAddress at = to_socket_address(group, wire::kRocePort, interfaces.front());
  if (bind(fd, at.get(), at.length) != 0) return failure("cannot bind UDP port 4791", group);
  size_t joined = 0;
  for (const uint32_t interface : interfaces) {
    if (v4) {
      ip_mreqn request = {};
      std::memcpy(&request.imr_multiaddr, group.v4_bytes(), sizeof request.imr_multiaddr);
      request.imr_ifindex = static_cast<int>(interface);
      joined += set(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, request);
    } else {
      ipv6_mreq request = {};
      std::memcpy(&request.ipv6mr_multiaddr, group.bytes.data(), sizeof request.ipv6mr_multiaddr);
      request.ipv6mr_interface = interface;
      joined += set(fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, request);
    }
  }
  if (joined == 0) return failure("no interface joins the group", group);
  return opened;
}

base::Result<base::UniqueFd> open_transmit_socket(const wire::IpAddress& address, uint16_t& port) {
  auto opened = open_socket(address);
  if (!opened) return opened;
  const int fd = opened->get();
  bool fixed = false;
  if (address.is_v4()) {
    fixed = set(fd, IPPROTO_IP, IP_MTU_DISCOVER, int{IP_PMTUDISC_DO}) &&
            set(fd, IPPROTO_IP, IP_TTL, 64);
  } else {
    fixed = set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, int{IPV6_PMTUDISC_DO}) &&
            set(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64);
  }
  if (!fixed) return failure("cannot forbid fragmentation", address);
  prepare_for_groups(fd, address);
  // Room for some trains until the device has sent them.
  set(fd, SOL_SOCKET, SO_SNDBUF, 1 << 20);
  // Nothing is read from it: what strays in shall not be kept.
  set(fd, SOL_SOCKET, SO_RCVBUF, 0);
  if (!bind_to(fd, address, port) && !bind_to(fd, address, 0)) return bind_failure(address);
  port = bound_port(fd);
  return opened;
}

uint32_t probe_segments_max(const wire::IpAddress& address) {
  uint16_t port = 0;
  auto opened = open_transmit_socket(address, port);
  if (!opened) return 1;
  const int fd = opened->get();
  const SocketAddress self = to_socket_address(address, port, scope_of(address));
  for (const uint32_t segments : {128u, 64u}) {
    if (!set(fd, IPPROTO_UDP, UDP_SEGMENT, 1)) return 1;
    const char bytes[128] = {};
    if (sendto(fd, bytes, segments, 0, self.get(), self.length) == static_cast<ssize_t>(segments)) {
      return segments;
    }
  }
  return 1;
}

uint64_t granted_receive_buffer(int fd) {
  int granted = 0;
  socklen_t length = sizeof granted;
  if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &length) != 0) return 0;
  return static_cast<uint64_t>(granted);
}

uint32_t socket_drops(int fd) noexcept {
  uint32_t info[SK_MEMINFO_VARS] = {};
  socklen_t length = sizeof info;
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) != 0) return 0;
  return info[SK_MEMINFO_DROPS];
}

}  // namespace flexins::port
