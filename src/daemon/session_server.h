#pragma once

#include <map>
#include <memory>
#include <string>

#include "daemon/event_loop.h"
#include "daemon/session.h"

namespace flexins::daemon {

/// Accepts applications and carries their messages to their sessions. Control thread.
class SessionServer {
 public:
  /// `loop` and `environment` outlive this.
  SessionServer(EventLoop& loop, const SessionEnvironment& environment, uint32_t sessions_max);
  ~SessionServer();
  SessionServer(const SessionServer&) = delete;
  SessionServer& operator=(const SessionServer&) = delete;

  /// Takes a listening SOCK_SEQPACKET socket.
  void listen(base::UniqueFd listener);
  /// No further applications; those there are stay.
  void stop_listening();
  void close_all();

  [[nodiscard]] const Tenants& tenants() const { return tenants_; }
  [[nodiscard]] size_t size() const { return connections_.size(); }
  /// Calls `visit(session)` for every session.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [fd, connection] : connections_) visit(*connection.session);
  }

 private:
  struct Connection {
    base::UniqueFd socket;
    std::unique_ptr<Session> session;
  };

  void accept_some();
  void admit(base::UniqueFd socket);
  void serve(int fd);
  void close(int fd);

  EventLoop& loop_;
  const SessionEnvironment& environment_;
  uint32_t sessions_max_;
  base::UniqueFd listener_;
  Tenants tenants_;
  std::map<int, Connection> connections_;
  std::unique_ptr<std::byte[]> buffer_;
};

/// SO_PEERCRED of a connected unix socket.
base::Result<PeerCredentials> peer_credentials(int socket);

}  // namespace flexins::daemon
