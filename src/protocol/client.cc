#include "protocol/client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <string>

#include "protocol/runtime_dir.h"

namespace flexins::protocol {
namespace {

int connect_to(const std::string& path, base::UniqueFd& out) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  std::memcpy(address.sun_path, path.data(), path.size());
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return errno;
  // Interrupted connects of unix sockets are simply repeated.
  while (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    if (errno != EINTR) return errno;
  }
  out = std::move(socket);
  return 0;
}

}  // namespace

base::Result<base::UniqueFd> connect_session(std::string_view name) {
  auto first = find_engine_dir(name);
  if (!first) return first.error();
  base::Error error{ENOENT, ""};
  for (const std::string& dir : engine_dirs(name)) {
    const std::string path = session_socket_path(dir);
    base::UniqueFd socket;
    const int code = connect_to(path, socket);
    if (code == 0) return socket;
    if (code == ECONNREFUSED || code == ENOENT) continue;  // left behind by a dead engine
    error = base::Error{code, path + ": " + std::strerror(code)};
  }
  if (error.message.empty()) {
    error.message = "no engine running under the name '" + std::string(name) +
                    "' (its socket is stale): start one with `flexins up` or use `flexins run`";
  }
  return error;
}

int SessionClient::exchange(MessageHeader& request, MessageHeader& reply, size_t reply_bytes,
                            std::span<const int> fds, ReceivedFds* received) {
  const std::lock_guard lock(mutex_);
  if (!socket_.valid()) return ECONNRESET;
  request.sequence = ++sequence_;
  const auto* message = reinterpret_cast<const std::byte*>(&request);
  const int failed = send_message(socket_.get(), {message, request.length}, fds);
  if (failed == EPIPE || failed == ECONNRESET || failed == ENOTCONN) return ECONNRESET;
  if (failed != 0) return failed;

  ReceivedFds unwanted;
  alignas(uint64_t) std::byte buffer[kMaxMessageBytes];
  const ReceivedMessage got =
      receive_message(socket_.get(), buffer, received != nullptr ? *received : unwanted);
  if (got.error != 0) return ECONNRESET;
  MessageHeader header;
  if (got.bytes < sizeof header) return EPROTO;
  std::memcpy(&header, buffer, sizeof header);
  if (header.length != got.bytes || header.type != request.type ||
      header.sequence != request.sequence) {
    return EPROTO;
  }
  std::memcpy(static_cast<void*>(&reply), buffer, std::min(got.bytes, reply_bytes));
  if (header.status != 0) return header.status;
  return got.bytes >= reply_bytes ? 0 : EPROTO;
}

}  // namespace flexins::protocol
