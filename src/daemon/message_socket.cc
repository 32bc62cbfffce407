#include "daemon/message_socket.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "protocol/messages.h"

namespace flexins::daemon {
namespace {

constexpr size_t kControlBytes = CMSG_SPACE(sizeof(int) * protocol::kMaxDescriptors);

void take_descriptors(msghdr& header, std::vector<base::UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Received receive_message(int socket, std::span<std::byte> buffer) {
  alignas(cmsghdr) char control[kControlBytes];
  iovec bytes{buffer.data(), buffer.size()};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  Received received;
  const ssize_t got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) {
    const bool later = errno == EAGAIN || errno == EINTR;
    received.status = later ? ReceiveStatus::kNothing : ReceiveStatus::kClosed;
    return received;
  }
  take_descriptors(header, received.fds);
  received.truncated = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  // A seqpacket socket says "end" as an empty message; empty ones that are sent look the same.
  received.status = got == 0 ? ReceiveStatus::kClosed : ReceiveStatus::kMessage;
  received.bytes = static_cast<size_t>(got);
  return received;
}

bool send_message(int socket, std::span<const std::byte> message,
                  const std::vector<base::UniqueFd>& fds) {
  alignas(cmsghdr) char control[kControlBytes] = {};
  iovec bytes{const_cast<std::byte*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    for (size_t i = 0; i < fds.size(); ++i) {
      const int fd = fds[i].get();
      std::memcpy(CMSG_DATA(part) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  return ::sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) ==
         static_cast<ssize_t>(message.size());
}

}  // namespace flexins::daemon
