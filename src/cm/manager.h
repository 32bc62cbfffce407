#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>

#include <absl/container/flat_hash_map.h>

#include "base/random.h"
#include "base/result.h"
#include "base/time.h"
#include "cm/types.h"

/// The communication manager of an engine: IB connection management over management datagrams, as
/// IBTA volume 1, chapter 12 has it and Linux speaks it. No I/O, no clock: datagrams and the time
/// are arguments, what is to be sent and what has happened is fetched with next_mad() and
/// next_event() after every call.

namespace flexins::cm {

struct Config {
  uint64_t ca_guid = 0;
  /// Until an unanswered message is sent again.
  base::TimeNs resend_ns = base::kSecond;
  uint8_t retries_max = 15;
  /// How long a peer is told to wait when the application has not answered yet.
  uint8_t service_timeout = 24;
  /// Largest path MTU (enum ibv_mtu) that a request may ask for.
  uint8_t path_mtu_max = 5;
  size_t connections_max = 65'536;
};

class Manager {
 public:
  /// `random` outlives this.
  Manager(const Config& config, base::RandomSource& random);

  // Listeners. -----------------------------------------------------------------------------------

  /// Requests for `service_id` that come to `address` (0.0.0.0: to any of IPv4; all zeros: to any).
  /// `backlog`: how many may wait for request_taken(); further ones are dropped, and their senders
  /// ask again.
  /// EADDRINUSE where there is such a listener.
  base::Result<ListenerId> listen(uint64_t service_id, const wire::IpAddress& address,
                                  uint32_t backlog);
  /// The application has seen one of the waiting requests.
  void request_taken(ListenerId listener);
  /// Connections that came through it stay.
  void stop_listening(ListenerId listener);

  // Connections. Errors of all: ENOENT (no such connection), EINVAL (not in this state). ---------

  /// Sends a REQ. ENOMEM: no room; E2BIG: private data too long.
  base::Result<ConnectionId> connect(const ConnectRequest& request, base::TimeNs now);
  /// Answers a kRequest with a REP. E2BIG.
  base::Result<void> accept(ConnectionId id, const AcceptReply& reply, base::TimeNs now);
  /// Answers a kReply with the RTU.
  base::Result<void> ready(ConnectionId id, base::TimeNs now);
  /// Answers a kRequest or a kReply with a REJ (reason "consumer"). E2BIG.
  base::Result<void> reject(ConnectionId id, std::span<const uint8_t> private_data,
                            base::TimeNs now);
  /// Passive: a packet has come on the connection, so that the RTU must have been lost.
  base::Result<void> communication_established(ConnectionId id, base::TimeNs now);
  /// Sends a DREQ, or the DREP where the peer has asked already.
  base::Result<void> disconnect(ConnectionId id, base::TimeNs now);

  /// Sends a SIDR_REQ. ENOMEM, E2BIG.
  base::Result<ConnectionId> resolve_service(const Path& path, uint64_t service_id,
                                             std::span<const uint8_t> private_data,
                                             base::TimeNs now);
  /// Answers a kServiceRequest. E2BIG.
  base::Result<void> answer_service(ConnectionId id, wire::CmSidrStatus status, uint32_t qpn,
                                    uint32_t qkey, std::span<const uint8_t> private_data,
                                    base::TimeNs now);

  /// The application has no more to do with it: no further events. What the protocol owes the peer
  /// is still done.
  void release(ConnectionId id, base::TimeNs now);

  [[nodiscard]] std::optional<State> state(ConnectionId id) const;
  [[nodiscard]] const Terms* terms(ConnectionId id) const;
  [[nodiscard]] const Path* path(ConnectionId id) const;

  // Input and output. ----------------------------------------------------------------------------

  void on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
              std::span<const std::byte> mad, base::TimeNs now);
  void on_deadline(base::TimeNs now);
  /// When on_deadline() has something to do; base::kNever.
  [[nodiscard]] base::TimeNs next_deadline() const;

  [[nodiscard]] bool next_mad(OutgoingMad& out);
  [[nodiscard]] bool next_event(Event& out);

  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] size_t listeners() const { return listeners_.size(); }
  /// Those in timewait included.
  [[nodiscard]] size_t connections() const { return connections_.size(); }

 private:
  struct Listener {
    uint64_t service_id = 0;
    wire::IpAddress address;
    uint32_t backlog = 0;
    uint32_t waiting = 0;
  };

  /// A number of a peer's, together with the peer.
  struct RemoteKey {
    wire::IpAddress address;
    uint32_t number = 0;
    friend bool operator==(const RemoteKey&, const RemoteKey&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const RemoteKey& key) {
      return H::combine(std::move(h), key.address.bytes, key.number);
    }
  };

  struct Connection {
    ConnectionId id;
    State state = State::kIdle;
    bool released = false;  ///< the application is gone
    bool passive = false;
    Path path;
    uint64_t transaction = 0;
    uint64_t service_id = 0;
    uint32_t remote_id = 0;
    Terms terms;
    wire::CmBody sent;  ///< the last message: again after the deadline, or when asked again
    uint8_t retries = 0;
    base::TimeNs deadline = base::kNever;
    bool indexed_id = false;
    bool indexed_qpn = false;
  };

  // manager.cc
  Connection* find(ConnectionId id);
  [[nodiscard]] const Connection* find(ConnectionId id) const;
  Connection* find_from(uint32_t local_id, uint32_t remote_id, const wire::IpAddress& source);
  Connection* create();
  void erase(Connection& connection);
  void schedule(Connection& connection, base::TimeNs deadline);
  void send(const Path& path, uint64_t transaction, const wire::CmBody& body);
  /// Sends `body` and keeps it for when it has to be said again.
  void say(Connection& connection, wire::CmBody body);
  void say_until_answered(Connection& connection, wire::CmBody body, base::TimeNs now);
  void repeat(const Connection& connection);
  void tell(const Connection& connection, EventKind kind, const wire::CmBody& body);
  void tell(const Connection& connection, EventKind kind);
  void enter_timewait(Connection& connection, base::TimeNs now);
  /// Over, and nothing is owed to the peer.
  void end(Connection& connection);
  Listener* find_listener(uint64_t service_id, const wire::IpAddress& address, ListenerId& id);

  // connect.cc
  void on_message(const wire::CmRep& rep, const Path& from, uint64_t transaction, base::TimeNs now);
  void on_message(const wire::CmMra& mra, const Path& from, uint64_t transaction, base::TimeNs now);
  void on_message(const wire::CmRej& rej, const Path& from, uint64_t transaction, base::TimeNs now);
  Connection* find_rejected(const wire::CmRej& rej, const wire::IpAddress& source);
  void say_reject(Connection& connection, wire::CmRejectReason reason,
                  std::span<const uint8_t> private_data, base::TimeNs now);
  void give_up(Connection& connection);

  // accept.cc
  void on_message(const wire::CmReq& req, const Path& from, uint64_t transaction, base::TimeNs now);
  void on_message(const wire::CmRtu& rtu, const Path& from, uint64_t transaction, base::TimeNs now);
  /// The passive end of what a peer asks `listener` for; null where there is no room, counted.
  Connection* take_request(Listener& listener, const Path& from, uint64_t transaction,
                           uint64_t service_id, uint32_t remote_id);
  void on_repeated_request(Connection& connection);
  void refuse(const wire::CmReq& req, const Path& from, uint64_t transaction,
              wire::CmRejectReason reason);

  // disconnect.cc
  void on_message(const wire::CmDreq& dreq, const Path& from, uint64_t transaction,
                  base::TimeNs now);
  void on_message(const wire::CmDrep& drep, const Path& from, uint64_t transaction,
                  base::TimeNs now);
  void say_dreq(Connection& connection, base::TimeNs now);
  void say_drep(Connection& connection, base::TimeNs now);

  // service.cc
  void on_message(const wire::CmSidrReq& req, const Path& from, uint64_t transaction,
                  base::TimeNs now);
  void on_message(const wire::CmSidrRep& rep, const Path& from, uint64_t transaction,
                  base::TimeNs now);

  // timers.cc
  void on_silence(Connection& connection, base::TimeNs now);

  Config config_;
  base::RandomSource& random_;
  absl::flat_hash_map<uint32_t, std::unique_ptr<Connection>> connections_;
  absl::flat_hash_map<RemoteKey, ConnectionId> by_remote_id_;   ///< passive ones
  absl::flat_hash_map<RemoteKey, ConnectionId> by_remote_qpn_;  ///< connected, and timewait
  std::map<uint32_t, Listener> listeners_;
  std::set<std::pair<base::TimeNs, uint32_t>> deadlines_;
  std::deque<OutgoingMad> outgoing_;
  std::deque<Event> events_;
  uint32_t last_listener_ = 0;
  Counters counters_;
};

}  // namespace flexins::cm
