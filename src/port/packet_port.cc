#include "port/packet_port.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fault_guard.h"

namespace flexins::port {

namespace {

constexpr int kReceiveBufferBytes = 4 << 20;

bool is_full(int error) {
  return error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == EINTR;
}

}  // namespace

PacketPort::PacketPort(std::string interface)
    : interface_(std::move(interface)), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  base::install_fault_guard();
}

base::Result<void> PacketPort::listen() {
  const unsigned index = if_nametoindex(interface_.c_str());
  if (index == 0) return base::Error{ENODEV, "no interface " + interface_};
  // Protocol 0 until it is bound: nothing of other interfaces gets in.
  base::UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return base::Error{errno, std::string("cannot open a packet socket: ") + strerror(errno)};
  }
  const int on = 1;
  setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferBytes,
             sizeof kReceiveBufferBytes);
  sockaddr_ll at = {};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = static_cast<int>(index);
  epoll_event event = {};
  event.events = EPOLLIN;
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 ||
      epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) {
    return base::Error{errno, "cannot listen on " + interface_ + ": " + strerror(errno)};
  }
  memory_ = std::make_unique<std::byte[]>(kBurst * kFrameBytes);
  fd_ = std::move(fd);
  return {};
}

void PacketPort::stop_listening() {
  fd_.reset();
  memory_.reset();
}

size_t PacketPort::transmit(std::span<wire::TxPacket> burst, base::TimeNs) noexcept {
  size_t taken = 0;
  for (wire::TxPacket& packet : burst) {
    msghdr header = {};
    header.msg_iov = packet.pieces.data();
    header.msg_iovlen = packet.piece_count;
    const ssize_t sent = fd_.valid() ? sendmsg(fd_.get(), &header, 0) : -1;
    if (sent < 0 && fd_.valid() && is_full(errno)) break;
    ++(sent < 0 ? tx_dropped_ : tx_frames_);
    ++taken;
  }
  return taken;
}

size_t PacketPort::receive(std::span<wire::RxPacket> burst, base::TimeNs) noexcept {
  if (!fd_.valid()) return 0;
  const size_t wanted = std::min(burst.size(), kBurst);
  for (size_t i = 0; i < wanted; ++i) {
    iovecs_[i] = {memory_.get() + i * kFrameBytes, kFrameBytes};
    headers_[i].msg_hdr = {};
    headers_[i].msg_hdr.msg_iov = &iovecs_[i];
    headers_[i].msg_hdr.msg_iovlen = 1;
  }
  const int got =
      recvmmsg(fd_.get(), headers_.data(), static_cast<unsigned>(wanted), MSG_DONTWAIT, nullptr);
  size_t count = 0;
  for (int i = 0; i < got; ++i) {
    if ((headers_[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
      ++rx_too_long_;
      continue;
    }
    wire::RxPacket& packet = burst[count++];
    packet = wire::RxPacket{};
    packet.bytes = memory_.get() + static_cast<size_t>(i) * kFrameBytes;
    packet.length = headers_[i].msg_len;
    ++rx_frames_;
  }
  return count;
}

Capabilities PacketPort::capabilities() const {
  return {.max_transport_bytes = kFrameBytes, .receive_buffer_bytes = kReceiveBufferBytes};
}

std::vector<Counter> PacketPort::counters() const {
  return {{"tx_frames", tx_frames_},
          {"tx_frames_dropped", tx_dropped_},
          {"rx_frames", rx_frames_},
          {"rx_frames_too_long", rx_too_long_}};
}

}  // namespace flexins::port
