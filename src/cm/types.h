#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/ids.h"
#include "base/time.h"
#include "wire/address.h"
#include "wire/cm_message.h"

namespace flexins::cm {

/// A connection, or the resolution of a service: its local communication id on the wire. Random.
using ConnectionId = base::StrongId<struct ConnectionTag, uint32_t>;
using ListenerId = base::StrongId<struct ListenerTag, uint32_t>;

/// Where packets of a connection travel.
struct Path {
  wire::IpAddress local;
  wire::IpAddress remote;
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 64;
  uint32_t flow_label = 0;

  friend bool operator==(const Path&, const Path&) = default;
};

/// Where a connection stands (IBTA volume 1, 12.9.7).
enum class State : uint8_t {
  kIdle,         ///< never began, or over without a trace
  kReqSent,      ///< active: waits for the REP
  kReqReceived,  ///< passive: the application has to answer
  kRepSent,      ///< passive: waits for the RTU
  kRepReceived,  ///< active: the application has to say that it is ready
  kEstablished,
  kDreqSent,
  kDreqReceived,  ///< the application has to agree
  kTimewait,      ///< packets may still be under way
  kRejected,      ///< by us; says so again when asked again
  kSidrReqSent,
  kSidrReqReceived,
};

/// What both ends agree on, as this end sees it.
struct Terms {
  uint32_t local_qpn = 0;
  uint32_t remote_qpn = 0;
  base::Psn receive_psn;  ///< chosen here: the first that the peer sends
  base::Psn send_psn;     ///< chosen by the peer
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  uint8_t retry_count = 0;
  uint8_t rnr_retry_count = 0;
  uint8_t path_mtu = 0;     ///< enum ibv_mtu
  uint8_t ack_timeout = 0;  ///< 4.096 µs · 2^n
  bool flow_control = false;
  bool srq = false;
  wire::CmTransport transport = wire::CmTransport::kReliable;
};

/// What connect() asks for.
struct ConnectRequest {
  Path path;
  uint64_t service_id = 0;
  /// Of this: not the remote QPN, and no PSN of the peer's.
  Terms terms;
  std::span<const uint8_t> private_data;  ///< wire::kReqPrivateBytes at most
};

/// What accept() answers.
struct AcceptReply {
  uint32_t local_qpn = 0;
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  uint8_t rnr_retry_count = 0;
  bool flow_control = false;
  bool srq = false;
  std::span<const uint8_t> private_data;  ///< wire::kRepPrivateBytes at most
};

enum class EventKind : uint8_t {
  kRequest,            ///< a REQ for a listener: accept() or reject()
  kReply,              ///< a REP: ready() or reject()
  kEstablished,        ///< passive: the RTU is there
  kRejected,           ///< body: the REJ
  kUnreachable,        ///< no answer, however often asked
  kDisconnectRequest,  ///< a DREQ: disconnect() agrees
  kDisconnected,       ///< our DREQ was answered, or never will be
  kTimewaitExit,
  kServiceRequest,  ///< a SIDR_REQ for a listener: answer_service()
  kServiceReply,    ///< body: the SIDR_REP
};

/// Something happened to a connection, or to a listener a new one.
struct Event {
  EventKind kind = EventKind::kRequest;
  ConnectionId connection;
  ListenerId listener;     ///< kRequest, kServiceRequest
  bool timed_out = false;  ///< kDisconnected
  wire::CmBody body;       ///< the message behind it, where there is one
};

/// A management datagram that wants to leave.
struct OutgoingMad {
  Path path;
  std::array<std::byte, wire::kMadBytes> bytes;
};

/// What was counted since the start.
struct Counters {
  uint64_t mads_received = 0;
  uint64_t mads_sent = 0;
  uint64_t retransmitted = 0;
  uint64_t duplicates_received = 0;
  uint64_t requests_rejected = 0;  ///< by the manager itself: no listener, bad parameters
  uint64_t drop_malformed = 0;
  uint64_t drop_unsupported = 0;   ///< LAP, APR, other classes
  uint64_t drop_unknown_id = 0;    ///< an answer to what was never asked
  uint64_t drop_wrong_source = 0;  ///< from another address than the connection's peer
  uint64_t drop_wrong_state = 0;
  uint64_t drop_backlog = 0;  ///< a listener had too many unanswered
  uint64_t drop_full = 0;     ///< no room for further connections
};

}  // namespace flexins::cm
