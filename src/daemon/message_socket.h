#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/unique_fd.h"

/// Datagrams with descriptors over a SOCK_SEQPACKET socket, never blocking.

namespace flexins::daemon {

enum class ReceiveStatus : uint8_t { kMessage, kNothing, kClosed };

struct Received {
  ReceiveStatus status = ReceiveStatus::kNothing;
  size_t bytes = 0;        ///< in the caller's buffer
  bool truncated = false;  ///< longer than the buffer, or more descriptors than a message may have
  std::vector<base::UniqueFd> fds;
};

[[nodiscard]] Received receive_message(int socket, std::span<std::byte> buffer);

/// False when the other side is gone or does not read.
[[nodiscard]] bool send_message(int socket, std::span<const std::byte> message,
                                const std::vector<base::UniqueFd>& fds);

}  // namespace flexins::daemon
