#include <algorithm>

#include "cm/errors.h"
#include "cm/manager.h"

/// The passive side: REQ, REP, what answers that.

namespace flexins::cm {

using base::Result;
using wire::CmRejectReason;

void Manager::refuse(const wire::CmReq& req, const Path& from, uint64_t transaction,
                     CmRejectReason reason) {
  ++counters_.requests_rejected;
  wire::CmRej rej;
  rej.remote_id = req.local_id;
  rej.answered = wire::CmAnswered::kReq;
  rej.reason = reason;
  send(from, transaction, rej);
}

Manager::Connection* Manager::take_request(Listener& listener, const Path& from,
                                           uint64_t transaction, uint64_t service_id,
                                           uint32_t remote_id) {
  if (listener.waiting >= listener.backlog) {
    ++counters_.drop_backlog;
    return nullptr;
  }
  Connection* connection = create();
  if (connection == nullptr) {
    ++counters_.drop_full;
    return nullptr;
  }
  ++listener.waiting;
  connection->passive = true;
  connection->transaction = transaction;
  connection->service_id = service_id;
  connection->remote_id = remote_id;
  connection->path = from;
  by_remote_id_.emplace(RemoteKey{from.remote, remote_id}, connection->id);
  connection->indexed_id = true;
  return connection;
}

void Manager::on_repeated_request(Connection& connection) {
  ++counters_.duplicates_received;
  if (connection.state == State::kRepSent || connection.state == State::kRejected) {
    return repeat(connection);
  }
  if (connection.state != State::kReqReceived) return;
  wire::CmMra mra;
  mra.local_id = connection.id.value;
  mra.remote_id = connection.remote_id;
  mra.answered = wire::CmAnswered::kReq;
  mra.service_timeout = config_.service_timeout;
  send(connection.path, connection.transaction, mra);
}

void Manager::on_message(const wire::CmReq& req, const Path& from, uint64_t transaction,
                         base::TimeNs now) {
  const RemoteKey id_key{from.remote, req.local_id};
  if (const auto known = by_remote_id_.find(id_key); known != by_remote_id_.end()) {
    return on_repeated_request(*connections_.at(known->second.value));
  }
  if (req.transport != wire::CmTransport::kReliable &&
      req.transport != wire::CmTransport::kUnreliable) {
    return refuse(req, from, transaction, CmRejectReason::kInvalidTransport);
  }
  if (req.local_id == 0) {
    ++counters_.drop_malformed;
    return;
  }
  // The path that it asks for must be the one that it came by.
  if (req.primary.local_gid != from.remote.bytes || req.primary.remote_gid != from.local.bytes) {
    return refuse(req, from, transaction, CmRejectReason::kInvalidGid);
  }
  if (req.path_mtu == 0 || req.path_mtu > config_.path_mtu_max) {
    return refuse(req, from, transaction, CmRejectReason::kInvalidMtu);
  }
  const RemoteKey qpn_key{from.remote, req.local_qpn};
  if (const auto stale = by_remote_qpn_.find(qpn_key);
      req.local_qpn != 0 && stale != by_remote_qpn_.end()) {
    // The peer uses the QP anew, so what we had with it is over.
    refuse(req, from, transaction, CmRejectReason::kStaleConnection);
    Connection& old = *connections_.at(stale->second.value);
    if (old.state == State::kEstablished) say_dreq(old, now);
    return;
  }
  ListenerId listener_id;
  Listener* listener = find_listener(req.service_id, from.local, listener_id);
  if (listener == nullptr) {
    return refuse(req, from, transaction, CmRejectReason::kInvalidServiceId);
  }
  Connection* connection = take_request(*listener, from, transaction, req.service_id, req.local_id);
  if (connection == nullptr) return;
  connection->state = State::kReqReceived;
  connection->path.traffic_class = req.primary.traffic_class;
  connection->path.hop_limit = req.primary.hop_limit == 0 ? 64 : req.primary.hop_limit;
  connection->path.flow_label = req.primary.flow_label;
  Terms& terms = connection->terms;
  terms.remote_qpn = req.local_qpn;
  terms.send_psn = req.starting_psn;
  terms.responder_resources = req.initiator_depth;
  terms.initiator_depth = req.responder_resources;
  terms.retry_count = req.retry_count;
  terms.rnr_retry_count = req.rnr_retry_count;
  terms.path_mtu = req.path_mtu;
  terms.ack_timeout = req.primary.local_ack_timeout;
  terms.flow_control = req.flow_control;
  terms.srq = req.srq;
  terms.transport = req.transport;
  if (req.local_qpn != 0) {
    connection->indexed_qpn = by_remote_qpn_.emplace(qpn_key, connection->id).second;
  }
  tell(*connection, EventKind::kRequest, req);
  events_.back().listener = listener_id;
}

Result<void> Manager::accept(ConnectionId id, const AcceptReply& reply, base::TimeNs now) {
  Connection* connection = find(id);
  if (connection == nullptr) return no_such_connection();
  if (connection->state != State::kReqReceived) return wrong_state();
  if (reply.private_data.size() > wire::kRepPrivateBytes) return too_long();
  // What Soft-RoCE says of itself: 134 ms.
  constexpr uint8_t kTargetAckDelay = 15;
  Terms& terms = connection->terms;
  terms.local_qpn = reply.local_qpn;
  terms.responder_resources = reply.responder_resources;
  terms.initiator_depth = reply.initiator_depth;
  wire::CmRep rep;
  rep.local_id = connection->id.value;
  rep.remote_id = connection->remote_id;
  rep.local_qpn = reply.local_qpn;
  rep.starting_psn = terms.receive_psn;
  rep.responder_resources = reply.responder_resources;
  rep.initiator_depth = reply.initiator_depth;
  rep.target_ack_delay = kTargetAckDelay;
  rep.flow_control = reply.flow_control;
  rep.rnr_retry_count = reply.rnr_retry_count;
  rep.srq = reply.srq;
  rep.local_ca_guid = config_.ca_guid;
  std::copy(reply.private_data.begin(), reply.private_data.end(), rep.private_data.begin());
  connection->state = State::kRepSent;
  say_until_answered(*connection, rep, now);
  return {};
}

void Manager::on_message(const wire::CmRtu& rtu, const Path& from, uint64_t, base::TimeNs) {
  Connection* connection = find_from(rtu.remote_id, rtu.local_id, from.remote);
  if (connection == nullptr) return;
  if (connection->state != State::kRepSent) {
    const bool again = connection->passive && connection->state == State::kEstablished;
    ++(again ? counters_.duplicates_received : counters_.drop_wrong_state);
    return;
  }
  connection->state = State::kEstablished;
  schedule(*connection, base::kNever);
  tell(*connection, EventKind::kEstablished, rtu);
}

Result<void> Manager::communication_established(ConnectionId id, base::TimeNs) {
  Connection* connection = find(id);
  if (connection == nullptr) return no_such_connection();
  if (connection->state == State::kEstablished) return {};
  if (connection->state != State::kRepSent) return wrong_state();
  connection->state = State::kEstablished;
  schedule(*connection, base::kNever);
  tell(*connection, EventKind::kEstablished);
  return {};
}

}  // namespace flexins::cm
