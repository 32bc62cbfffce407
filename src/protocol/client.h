#pragma once

#include <algorithm>
#include <cstring>
#include <mutex>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/result.h"
#include "base/unique_fd.h"
#include "protocol/framing.h"
#include "protocol/messages.h"

/// The application's end of a session: one request, one reply. Thread-safe: calls take turns.

namespace flexins::protocol {

/// Connects to the session socket of the engine called `name`, trying its directories in order.
/// Errors: EINVAL for a bad name, ENOENT when none runs (with what to do), EACCES, other errno.
base::Result<base::UniqueFd> connect_session(std::string_view name);

class SessionClient {
 public:
  SessionClient() = default;
  explicit SessionClient(base::UniqueFd socket) : socket_(std::move(socket)) {}

  void adopt(base::UniqueFd socket) { socket_ = std::move(socket); }

  /// Sends `request` (its header is filled in here) with `fds`, waits for the reply and copies it
  /// into `reply`, its descriptors into `received`. Returns 0, the reply's status, or what made the
  /// session useless: ECONNRESET (engine gone), EPROTO (not what the protocol says).
  template <typename Request, typename Reply>
  int call(Request& request, Reply& reply, std::span<const int> fds = {},
           ReceivedFds* received = nullptr, size_t request_bytes = sizeof(Request)) {
    static_assert(std::is_trivially_copyable_v<Request> && std::is_trivially_copyable_v<Reply>);
    request.header = MessageHeader{static_cast<uint16_t>(Request::kType), 0,
                                   static_cast<uint32_t>(request_bytes), 0, 0};
    return exchange(request.header, reply.header, sizeof reply, fds, received);
  }

  /// Pollable; POLLHUP when the engine is gone.
  [[nodiscard]] int descriptor() const { return socket_.get(); }

  /// Closes this process's copy without taking part in the session: for a child after fork, which
  /// must not keep a dead parent's session open. Takes no lock.
  void abandon() { socket_.reset(); }

 private:
  int exchange(MessageHeader& request, MessageHeader& reply, size_t reply_bytes,
               std::span<const int> fds, ReceivedFds* received);

  std::mutex mutex_;
  base::UniqueFd socket_;
  uint32_t sequence_ = 0;
};

}  // namespace flexins::protocol
