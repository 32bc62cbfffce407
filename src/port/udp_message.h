#pragma once

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "port/udp_socket.h"
#include "wire/packet.h"

namespace flexins::port {

/// Destination and control messages of one sendmsg: what differs from the socket's defaults.
class UdpMessage {
 public:
  UdpMessage(const wire::Path& path, uint32_t scope_id) noexcept
      : to_(to_socket_address(path.destination, wire::kRocePort, scope_id)) {
    const bool v4 = path.destination.is_v4();
    if (path.traffic_class != 0) {
      add(v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, int{path.traffic_class});
    }
    if (path.hop_limit != kSocketHopLimit) {
      add(v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_HOPLIMIT, int{path.hop_limit});
    }
  }

  /// `segment_bytes` > 0: the kernel cuts the datagram into segments of that size.
  void fill(msghdr& header, std::span<iovec> iovecs, uint16_t segment_bytes) noexcept {
    size_t length = length_;
    if (segment_bytes > 0) length = add_at(length, IPPROTO_UDP, UDP_SEGMENT, segment_bytes);
    header = {};
    header.msg_name = &to_.storage;
    header.msg_namelen = to_.length;
    header.msg_iov = iovecs.data();
    header.msg_iovlen = iovecs.size();
    header.msg_control = length > 0 ? control_ : nullptr;
    header.msg_controllen = length;
  }

 private:
  static constexpr uint8_t kSocketHopLimit = 64;

  template <typename T>
  void add(int level, int type, T value) noexcept {
    length_ = add_at(length_, level, type, value);
  }
  template <typename T>
  size_t add_at(size_t at, int level, int type, T value) noexcept {
    cmsghdr header = {};
    header.cmsg_len = CMSG_LEN(sizeof value);
    header.cmsg_level = level;
    header.cmsg_type = type;
    std::memcpy(control_ + at, &header, sizeof header);
    std::memcpy(control_ + at + CMSG_LEN(0), &value, sizeof value);
    return at + CMSG_SPACE(sizeof value);
  }

  SocketAddress to_;
  size_t length_ = 0;
  alignas(cmsghdr) std::byte control_[2 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint16_t))];
};

}  // namespace flexins::port
