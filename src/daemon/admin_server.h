#pragma once

#include <map>
#include <string>

#include "base/unique_fd.h"
#include "daemon/admin.h"
#include "daemon/event_loop.h"

namespace flexins::daemon {

/// Carries lines between the admin socket's clients and Admin. Control thread.
class AdminServer {
 public:
  static constexpr size_t kMaxRequestBytes = 64 * 1024;
  static constexpr size_t kMaxClients = 64;

  /// `loop` and `admin` outlive this.
  AdminServer(EventLoop& loop, Admin& admin) : loop_(loop), admin_(admin) {}
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  /// Takes a listening SOCK_STREAM socket.
  void listen(base::UniqueFd listener);
  [[nodiscard]] size_t size() const { return clients_.size(); }

 private:
  struct Client {
    base::UniqueFd socket;
    PeerCredentials peer;
    std::string input;   ///< up to a line that is not whole yet
    std::string output;  ///< not yet taken by the socket
  };

  void accept_one();
  void serve(int fd, uint32_t events);
  /// These return false when the client is to be closed.
  bool read_some(Client& client);
  bool answer_lines(Client& client);
  bool write_some(Client& client);
  void close(int fd);

  EventLoop& loop_;
  Admin& admin_;
  base::UniqueFd listener_;
  std::map<int, Client> clients_;
};

}  // namespace flexins::daemon
