#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "wire/address.h"

/// The sockets of the UDP port. Nothing here needs a privilege. Control path, except where a
/// function is noexcept.

namespace flexins::port {

/// A socket address of either family.
struct SocketAddress {
  sockaddr_storage storage;
  socklen_t length = 0;

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

/// `scope_id`: the interface index that an IPv6 address of link scope needs, else 0.
[[nodiscard]] SocketAddress to_socket_address(const wire::IpAddress& address, uint16_t port,
                                              uint32_t scope_id) noexcept;
/// The other way; port in host order.
void from_socket_address(const sockaddr_storage& from, wire::IpAddress& address,
                         uint16_t& port) noexcept;

/// The scope_id for `address`: 0 unless it has link scope.
[[nodiscard]] uint32_t scope_of(const wire::IpAddress& address);

/// Socket that receives RoCE packets for `address`: bound to UDP port 4791, GRO on, traffic class
/// delivered, not blocking. Errors name the address and the cure (EADDRINUSE, EADDRNOTAVAIL).
[[nodiscard]] base::Result<base::UniqueFd> open_receive_socket(const wire::IpAddress& address,
                                                               uint64_t receive_buffer_bytes);

/// The same for the packets of a multicast group that arrive at any of `interfaces` (their indexes,
/// at least one), which join it. Several engines of a host may have one each.
[[nodiscard]] base::Result<base::UniqueFd> open_group_socket(const wire::IpAddress& group,
                                                             std::span<const uint32_t> interfaces,
                                                             uint64_t receive_buffer_bytes);

/// Socket that sends from `address`. Unconnected and never fragmenting: such a socket's IPv4
/// packets have DF set and identification 0, which the ICRC covers. `port` is the wish on entry
/// and what was bound on return; another one is taken where the wish is in use.
[[nodiscard]] base::Result<base::UniqueFd> open_transmit_socket(const wire::IpAddress& address,
                                                                uint16_t& port);

/// Most segments that the kernel cuts one datagram into: 128, 64 or (no UDP_SEGMENT at all) 1.
/// Sends a few bytes from `address` to itself.
[[nodiscard]] uint32_t probe_segments_max(const wire::IpAddress& address);

/// SO_RCVBUF as the kernel accounts it (twice what was asked for), or 0.
[[nodiscard]] uint64_t granted_receive_buffer(int fd);
/// Datagrams that the kernel dropped at `fd` because nobody read them in time.
[[nodiscard]] uint32_t socket_drops(int fd) noexcept;

}  // namespace flexins::port
