#pragma once

#include <functional>
#include <map>
#include <memory>

#include "daemon/cm_bridge.h"
#include "daemon/cm_service.h"
#include "daemon/event_loop.h"
#include "daemon/session_server.h"
#include "daemon/worker_thread.h"

namespace flexins::daemon {

/// Connects the service to the world: channels to their sockets (protocol/messages_cm.h), datagrams
/// to the worker, timers to the clock. Control thread.
class CmServer {
 public:
  /// All arguments outlive this. Throws std::system_error.
  CmServer(EventLoop& loop, CmBridge& bridge);
  ~CmServer();
  CmServer(const CmServer&) = delete;
  CmServer& operator=(const CmServer&) = delete;

  /// Before anything else. `worker` outlives this. `others` is shown each datagram first, and says
  /// whether it was one of its own.
  void start(const CmServiceConfig& config, WorkerThread& worker,
             std::function<bool(const CmBridge::Mad&)> others);
  /// Takes a listening SOCK_SEQPACKET socket.
  void listen(base::UniqueFd listener);
  void stop_listening();
  /// Tells peers that connections have ended, as far as they can be told at once.
  void close_all();

  /// Does what is due, and returns how long nothing will be.
  base::TimeNs look_at_clock();
  [[nodiscard]] size_t size() const { return connections_.size(); }
  [[nodiscard]] CmCounts counts() const;
  [[nodiscard]] std::vector<port::Counter> counters() const;

 private:
  struct Connection {
    base::UniqueFd socket;
    PeerCredentials peer;
    CmChannel* channel = nullptr;  ///< from its Hello on
    uint64_t unsaid = 0;           ///< events of which the program has not been told
  };

  void accept_some();
  void serve(int fd, uint32_t events);
  void answer(Connection& connection, std::span<const std::byte> message, int reply_socket);
  void close(int fd);
  void on_channel_event(CmChannel& channel);
  void say(int fd);
  void take_mads();
  void send_mads();

  EventLoop& loop_;
  CmBridge& bridge_;
  WorkerThread* worker_ = nullptr;
  std::function<bool(const CmBridge::Mad&)> others_;
  base::SystemRandom random_;
  KernelRoutes routes_;
  std::unique_ptr<CmService> service_;
  base::UniqueFd listener_;
  std::map<int, Connection> connections_;
  std::map<uid_t, uint32_t> channels_of_users_;
  std::map<const CmChannel*, int> by_channel_;
  std::unique_ptr<std::byte[]> buffer_;
};

}  // namespace flexins::daemon
