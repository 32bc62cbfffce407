#include "daemon/session_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include <spdlog/spdlog.h>

#include "daemon/message_socket.h"

namespace flexins::daemon {
namespace {

/// Accepted or served in one go, so that no socket keeps the others waiting.
constexpr int kBatch = 16;

}  // namespace

base::Result<PeerCredentials> peer_credentials(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return base::Error{errno, std::string("SO_PEERCRED: ") + std::strerror(errno)};
  }
  return PeerCredentials{peer.uid, peer.pid};
}

SessionServer::SessionServer(EventLoop& loop, const SessionEnvironment& environment,
                             uint32_t sessions_max)
    : loop_(loop),
      environment_(environment),
      sessions_max_(sessions_max),
      buffer_(std::make_unique<std::byte[]>(protocol::kMaxMessageBytes)) {}

SessionServer::~SessionServer() {
  stop_listening();
  close_all();
}

void SessionServer::listen(base::UniqueFd listener) {
  listener_ = std::move(listener);
  loop_.add(listener_.get(), EPOLLIN, [this](uint32_t) { accept_some(); });
}

void SessionServer::stop_listening() {
  if (!listener_.valid()) return;
  loop_.remove(listener_.get());
  listener_.reset();
}

void SessionServer::close_all() {
  while (!connections_.empty()) close(connections_.begin()->first);
}

void SessionServer::accept_some() {
  for (int i = 0; i < kBatch; ++i) {
    base::UniqueFd socket(
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) {
      if (errno == EMFILE || errno == ENFILE) {
        spdlog::error("no descriptors left for further applications (see `ulimit -n`)");
      }
      return;
    }
    admit(std::move(socket));
  }
}

void SessionServer::admit(base::UniqueFd socket) {
  auto peer = peer_credentials(socket.get());
  if (!peer) return;
  TenantUse& use = tenants_.of(peer->uid);
  if (connections_.size() >= sessions_max_ || use.sessions >= environment_.limits.sessions_max) {
    spdlog::warn("pid {} (uid {}) turned away: {} sessions of this user, {} in all", peer->pid,
                 peer->uid, use.sessions, connections_.size());
    return;
  }
  const int fd = socket.get();
  connections_.emplace(
      fd, Connection{std::move(socket), std::make_unique<Session>(environment_, use, *peer)});
  loop_.add(fd, EPOLLIN, [this, fd](uint32_t) { serve(fd); });
}

void SessionServer::serve(int fd) {
  Session& session = *connections_.at(fd).session;
  for (int i = 0; i < kBatch; ++i) {
    Received received = receive_message(fd, {buffer_.get(), protocol::kMaxMessageBytes});
    if (received.status == ReceiveStatus::kNothing) return;
    if (received.status == ReceiveStatus::kClosed) return close(fd);
    // What was cut is answered as a message of the wrong size.
    const size_t bytes = received.truncated ? std::min<size_t>(received.bytes, 16) : received.bytes;
    const Reply reply = session.handle({buffer_.get(), bytes}, std::move(received.fds));
    if (send_message(fd, reply.bytes, reply.fds)) continue;
    spdlog::warn("context {} ({}): takes no answers, closed", session.context().value,
                 session.program());
    return close(fd);
  }
}

void SessionServer::close(int fd) {
  const auto found = connections_.find(fd);
  const Session& session = *found->second.session;
  if (session.open()) {
    spdlog::info("context {}: {} (pid {}) has gone", session.context().value, session.program(),
                 session.peer().pid);
  }
  loop_.remove(fd);
  connections_.erase(found);
}

}  // namespace flexins::daemon
