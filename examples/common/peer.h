#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// What the examples share: a TCP connection over which two programs tell each other where to send
/// to, and a reliable RDMA connection set up from that. Plain libibverbs; any error ends the
/// program with a message and status 1.
namespace example {

/// Prints "error: …" and exits with status 1. `format` as for printf.
[[noreturn]] [[gnu::format(printf, 1, 2)]] void fail(const char* format, ...);

/// A TCP connection between the two programs, for all that is not RDMA.
class Socket {
 public:
  /// An empty `host` waits for one client on `port`; otherwise connects, trying for ten seconds.
  Socket(const std::string& host, uint16_t port);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  void send(const void* data, size_t bytes) const;
  void receive(void* data, size_t bytes) const;
  /// Sends ours and receives theirs: both sides call it with the same type.
  template <typename T>
  [[nodiscard]] T exchange(const T& ours) const {
    T theirs;
    send(&ours, sizeof(T));
    receive(&theirs, sizeof(T));
    return theirs;
  }

 private:
  int fd_ = -1;
};

struct Settings {
  std::string host;  ///< of the server; empty in the server itself
  uint16_t tcp_port = 18515;
  std::string device;        ///< empty: the first one
  int gid_index = -1;        ///< -1: the first IPv4 GID, or 0
  bool use_events = false;   ///< sleep on a completion channel instead of polling
  bool unreliable = false;   ///< UC instead of RC: for paths that lose nothing
  bool use_srq = false;      ///< receives go through a shared receive queue
  uint32_t depth = 64;       ///< work requests of each queue
  uint32_t sge_max = 16;     ///< pieces of one work request
  uint32_t inline_max = 64;  ///< bytes; the device may grant more
  double timeout_seconds = 60;
};

/// Memory of ours that the peer may read and write.
struct RemoteMemory {
  uint64_t address = 0;
  uint64_t length = 0;
  uint32_t rkey = 0;
  uint32_t reserved = 0;
};

/// A connection to the other program, reliable unless the settings say otherwise.
class Connection {
 public:
  Connection(const Settings& settings, const Socket& socket);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Registers memory for all that this program does with it. It stays registered until the end.
  ibv_mr* share(void* address, size_t length);

  void post_send(ibv_send_wr* chain);
  void post_receive(ibv_recv_wr* chain);
  /// The next completion. A completion with an error, or none for the time-out, ends the program.
  ibv_wc wait();

  [[nodiscard]] uint32_t inline_max() const { return inline_max_; }
  [[nodiscard]] uint32_t sge_max() const { return sge_max_; }

 private:
  void open_device();
  void choose_gid();
  void create_queues();
  void connect(const Socket& socket);

  const Settings settings_;
  ibv_context* context_ = nullptr;
  ibv_pd* pd_ = nullptr;
  ibv_comp_channel* channel_ = nullptr;
  ibv_cq* cq_ = nullptr;
  ibv_srq* srq_ = nullptr;
  ibv_qp* qp_ = nullptr;
  std::vector<ibv_mr*> regions_;
  ibv_port_attr port_ = {};
  ibv_device_attr limits_ = {};
  ibv_gid gid_ = {};
  int gid_index_ = 0;
  uint32_t inline_max_ = 0;
  uint32_t sge_max_ = 0;
  uint32_t unacknowledged_events_ = 0;
};

}  // namespace example
