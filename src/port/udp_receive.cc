#include "port/udp_receive.h"

#include <netinet/udp.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "port/limits.h"
#include "port/udp_socket.h"
#include "wire/icrc.h"

namespace flexins::port {

UdpReceive::UdpReceive(std::vector<Listener> listeners, uint32_t buffers, bool with_icrc)
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      with_icrc_(with_icrc),
      memory_(new std::byte[buffers * kBufferBytes]) {
  FLEXINS_CHECK(buffers > 0 && buffers <= kMaxBuffers);
  for (uint32_t i = 0; i < buffers; ++i) {
    buffers_[i].data = memory_.get() + i * kBufferBytes;
    buffers_[i].iov = {buffers_[i].data, kBufferBytes};
    free_[free_count_++] = static_cast<uint8_t>(i);
  }
  // Unwatched, a socket is still served whenever anything else wakes us.
  for (Listener& listener : listeners) static_cast<void>(add(std::move(listener)));
}

base::Result<void> UdpReceive::add(Listener listener) {
  epoll_event event = {};
  event.events = EPOLLIN;
  const bool watched = epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener.fd.get(), &event) == 0;
  const int code = errno;
  listeners_.push_back(std::move(listener));
  if (!watched) return base::Error{code, "cannot watch a UDP socket"};
  return {};
}

void UdpReceive::remove(const wire::IpAddress& address) {
  std::erase_if(listeners_, [&](const Listener& one) { return one.address == address; });
  next_listener_ = 0;
}

size_t UdpReceive::receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept {
  recycle();
  size_t n = cut(burst, now);
  // Each socket is asked until one round finds all of them empty; who was asked first moves on.
  for (size_t empty = 0; empty < listeners_.size() && n < burst.size() && free_count_ > 0;) {
    const size_t wanted = std::min<size_t>(burst.size() - n, free_count_);
    const size_t got = fill(listeners_[next_listener_], wanted);
    if (got < wanted) {
      ++empty;
      next_listener_ = next_listener_ + 1 == listeners_.size() ? 0 : next_listener_ + 1;
    } else {
      empty = 0;
    }
    n += cut(burst.subspan(n), now);
  }
  return n;
}

void UdpReceive::recycle() noexcept {
  for (uint32_t i = 0; i < cut_count_; ++i) free_[free_count_++] = filled_[i];
  std::copy(filled_.begin() + cut_count_, filled_.begin() + filled_count_, filled_.begin());
  filled_count_ -= cut_count_;
  cut_count_ = 0;
}

size_t UdpReceive::fill(const Listener& listener, size_t wanted) noexcept {
  for (size_t i = 0; i < wanted; ++i) {
    Buffer& buffer = buffers_[free_[free_count_ - 1 - i]];
    msghdr& header = headers_[i].msg_hdr;
    header = {};
    header.msg_name = &buffer.name;
    header.msg_namelen = sizeof buffer.name;
    header.msg_iov = &buffer.iov;
    header.msg_iovlen = 1;
    header.msg_control = buffer.control;
    header.msg_controllen = sizeof buffer.control;
  }
  const int got = recvmmsg(listener.fd.get(), headers_.data(), static_cast<unsigned>(wanted),
                           MSG_DONTWAIT, nullptr);
  if (got <= 0) {
    if (got < 0 && errno != EAGAIN && errno != EINTR) ++errors_;
    return 0;
  }
  for (int i = 0; i < got; ++i) {
    const uint8_t index = free_[--free_count_];
    buffers_[index].destination = listener.address;
    arrived(buffers_[index], headers_[i]);
    filled_[filled_count_++] = index;
  }
  return static_cast<size_t>(got);
}

void UdpReceive::arrived(Buffer& buffer, const mmsghdr& header) noexcept {
  ++datagrams_;
  buffer.length = header.msg_len;
  buffer.offset = 0;
  buffer.segment_bytes = std::max(1u, header.msg_len);
  buffer.next_identification = 0;
  buffer.traffic_class = 0;
  buffer.hop_limit = 0;
  from_socket_address(buffer.name, buffer.source, buffer.source_port);
  msghdr message = header.msg_hdr;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
      int segment = 0;
      std::memcpy(&segment, CMSG_DATA(c), sizeof segment);
      if (segment > 0) buffer.segment_bytes = static_cast<uint32_t>(segment);
    } else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) ||
               (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)) {
      // One byte for IPv4, an int for IPv6.
      int traffic_class = 0;
      std::memcpy(&traffic_class, CMSG_DATA(c),
                  std::min(sizeof traffic_class, c->cmsg_len - CMSG_LEN(0)));
      buffer.traffic_class = static_cast<uint8_t>(traffic_class);
    } else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) ||
               (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT)) {
      int hop_limit = 0;
      std::memcpy(&hop_limit, CMSG_DATA(c), sizeof hop_limit);
      buffer.hop_limit = static_cast<uint8_t>(hop_limit);
    }
  }
  if (buffer.length > buffer.segment_bytes) ++trains_;
}

size_t UdpReceive::cut(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept {
  size_t n = 0;
  while (cut_count_ < filled_count_) {
    Buffer& buffer = buffers_[filled_[cut_count_]];
    do {
      if (n == burst.size()) return n;
      if (cut_one(buffer, burst[n], now)) ++n;
    } while (buffer.offset < buffer.length);
    ++cut_count_;
  }
  return n;
}

bool UdpReceive::cut_one(Buffer& buffer, wire::RxPacket& out, base::TimeNs now) noexcept {
  const uint32_t length = std::min(buffer.segment_bytes, buffer.length - buffer.offset);
  out = {.bytes = buffer.data + buffer.offset,
         .length = length,
         .source = buffer.source,
         .destination = buffer.destination,
         .source_port = buffer.source_port,
         .traffic_class = buffer.traffic_class,
         .hop_limit = buffer.hop_limit};
  buffer.offset += length;
  if (length < kBthBytes + kIcrcBytes || length > kMaxTransportBytes) {
    const bool is_short = length <= kMaxTransportBytes;
    ++(is_short ? too_short_ : too_long_);
    ++buffer.next_identification;
    drop(out, is_short ? "too short" : "too long", now);
    return false;
  }
  if (with_icrc_ && !icrc_fits(buffer, {out.bytes, out.length})) {
    drop(out, "icrc wrong", now);
    return false;
  }
  out.length -= kIcrcBytes;
  ++packets_;
  bytes_ += length;
  return true;
}

bool UdpReceive::icrc_fits(Buffer& buffer, std::span<const std::byte> packet) noexcept {
  const wire::OuterHeaders outer = {.source = buffer.source,
                                    .destination = buffer.destination,
                                    .source_port = buffer.source_port,
                                    .transport_bytes = static_cast<uint16_t>(packet.size()),
                                    .identification = buffer.next_identification};
  uint16_t identification = buffer.next_identification;
  const wire::IcrcVerdict verdict = wire::icrc_check(outer, packet, identification);
  // Segments of one datagram are numbered through: what fits one foretells the next.
  buffer.next_identification = static_cast<uint16_t>(identification + 1);
  switch (verdict) {
    case wire::IcrcVerdict::kExact: ++icrc_exact_; return true;
    case wire::IcrcVerdict::kPlausible: ++icrc_plausible_; return true;
    case wire::IcrcVerdict::kWrong: break;
  }
  ++icrc_wrong_;
  return false;
}

void UdpReceive::drop(const wire::RxPacket& packet, std::string_view reason,
                      base::TimeNs now) noexcept {
  if (observer_ != nullptr) observer_->receive_dropped(packet, reason, now);
}

uint64_t UdpReceive::granted_buffer_bytes() const {
  uint64_t smallest = UINT64_MAX;
  for (const Listener& listener : listeners_) {
    smallest = std::min(smallest, granted_receive_buffer(listener.fd.get()));
  }
  return smallest;
}

void UdpReceive::append_counters(std::vector<Counter>& to) const {
  uint64_t drops = 0;
  for (const Listener& listener : listeners_) drops += socket_drops(listener.fd.get());
  to.insert(to.end(), {{"rx_packets", packets_},
                       {"rx_bytes", bytes_},
                       {"rx_datagrams", datagrams_},
                       {"rx_trains", trains_},
                       {"rx_too_short", too_short_},
                       {"rx_too_long", too_long_},
                       {"rx_errors", errors_},
                       {"icrc_exact", icrc_exact_},
                       {"icrc_plausible", icrc_plausible_},
                       {"icrc_wrong", icrc_wrong_},
                       {"socket_drops", drops}});
}

}  // namespace flexins::port
