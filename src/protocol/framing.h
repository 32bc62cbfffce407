#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"
#include "protocol/messages.h"

/// One message of the session socket with its descriptors: sendmsg and recvmsg, retried after
/// signals, never raising SIGPIPE.

namespace flexins::protocol {

/// Descriptors that came with a message; what nobody takes is closed.
struct ReceivedFds {
  std::array<base::UniqueFd, kMaxDescriptors> fds;
  uint32_t count = 0;

  /// Descriptor `index`, now the caller's; invalid if the message had fewer.
  [[nodiscard]] base::UniqueFd take(uint32_t index) {
    return index < count ? std::move(fds[index]) : base::UniqueFd();
  }
};

struct ReceivedMessage {
  int error = 0;     ///< errno value; ECONNRESET when the peer is gone, EMSGSIZE when it was cut
  size_t bytes = 0;  ///< of the message
};

/// Sends `message` and at most kMaxDescriptors descriptors. Returns 0 or an errno value.
[[nodiscard]] int send_message(int socket, std::span<const std::byte> message,
                               std::span<const int> fds);

/// Receives one message. `flags`: 0 or MSG_DONTWAIT.
[[nodiscard]] ReceivedMessage receive_message(int socket, std::span<std::byte> buffer,
                                              ReceivedFds& fds, int flags = 0);

}  // namespace flexins::protocol
