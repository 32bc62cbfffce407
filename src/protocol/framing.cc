#include "protocol/framing.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace flexins::protocol {
namespace {

constexpr size_t kControlBytes = CMSG_SPACE(sizeof(int) * kMaxDescriptors);

void take_descriptors(msghdr& header, ReceivedFds& out) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      if (out.count < kMaxDescriptors) {
        out.fds[out.count++].reset(fd);
      } else {
        ::close(fd);
      }
    }
  }
}

}  // namespace

int send_message(int socket, std::span<const std::byte> message, std::span<const int> fds) {
  if (fds.size() > kMaxDescriptors) return EINVAL;
  alignas(cmsghdr) char control[kControlBytes] = {};
  iovec piece{const_cast<std::byte*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  for (;;) {
    const ssize_t sent = ::sendmsg(socket, &header, MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<size_t>(sent) == message.size() ? 0 : EMSGSIZE;
    if (errno != EINTR) return errno;
  }
}

ReceivedMessage receive_message(int socket, std::span<std::byte> buffer, ReceivedFds& fds,
                                int flags) {
  alignas(cmsghdr) char control[kControlBytes];
  iovec piece{buffer.data(), buffer.size()};
  for (;;) {
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t received = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC | flags);
    if (received < 0) {
      if (errno == EINTR) continue;
      return {errno, 0};
    }
    take_descriptors(header, fds);
    if (received == 0) return {ECONNRESET, 0};
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return {EMSGSIZE, 0};
    return {0, static_cast<size_t>(received)};
  }
}

}  // namespace flexins::protocol
