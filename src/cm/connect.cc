#include <algorithm>
#include <cerrno>

#include "base/byte_order.h"
#include "base/check.h"
#include "cm/durations.h"
#include "cm/errors.h"
#include "cm/manager.h"

/// The active side: REQ, what answers it, RTU.

namespace flexins::cm {

using base::Error;
using base::Result;

namespace {

/// What a peer is told about the times that we take: 4.3 s, as Linux says.
constexpr uint8_t kResponseTimeout = 20;
constexpr uint8_t kGuidBytes = 8;
constexpr uint16_t kNoLid = 0xffff;

wire::CmPath wire_path(const Path& path, uint8_t ack_timeout) {
  wire::CmPath out;
  out.local_lid = out.remote_lid = kNoLid;
  out.local_gid = path.local.bytes;
  out.remote_gid = path.remote.bytes;
  out.flow_label = path.flow_label;
  out.traffic_class = path.traffic_class;
  out.hop_limit = path.hop_limit;
  out.local_ack_timeout = ack_timeout;
  return out;
}

}  // namespace

Result<ConnectionId> Manager::connect(const ConnectRequest& request, base::TimeNs now) {
  if (request.private_data.size() > wire::kReqPrivateBytes) return too_long();
  Connection* connection = create();
  if (connection == nullptr) return Error{ENOMEM, "no room for a further connection"};
  const base::Psn psn = connection->terms.receive_psn;
  connection->terms = request.terms;
  connection->terms.receive_psn = psn;
  connection->path = request.path;
  connection->service_id = request.service_id;
  connection->state = State::kReqSent;

  const Terms& terms = connection->terms;
  wire::CmReq req;
  req.local_id = connection->id.value;
  req.service_id = request.service_id;
  req.local_ca_guid = config_.ca_guid;
  req.local_qpn = terms.local_qpn;
  req.responder_resources = terms.responder_resources;
  req.initiator_depth = terms.initiator_depth;
  req.remote_response_timeout = kResponseTimeout;
  req.local_response_timeout = kResponseTimeout;
  req.transport = terms.transport;
  req.flow_control = terms.flow_control;
  req.starting_psn = psn;
  req.retry_count = terms.retry_count;
  req.rnr_retry_count = terms.rnr_retry_count;
  req.path_mtu = terms.path_mtu;
  req.max_cm_retries = config_.retries_max;
  req.srq = terms.srq;
  req.primary = wire_path(request.path, terms.ack_timeout);
  std::copy(request.private_data.begin(), request.private_data.end(), req.private_data.begin());
  say_until_answered(*connection, req, now);
  return connection->id;
}

void Manager::on_message(const wire::CmRep& rep, const Path& from, uint64_t transaction,
                         base::TimeNs) {
  if (!connections_.contains(rep.remote_id)) {
    // We gave up, or died and came back: the peer need not go on asking.
    wire::CmRej rej;
    rej.local_id = rep.remote_id;
    rej.remote_id = rep.local_id;
    rej.answered = wire::CmAnswered::kRep;
    rej.reason = wire::CmRejectReason::kInvalidCommunicationId;
    ++counters_.drop_unknown_id;
    return send(from, transaction, rej);
  }
  Connection* connection = find_from(rep.remote_id, rep.local_id, from.remote);
  if (connection == nullptr) return;
  if (connection->state == State::kEstablished && !connection->passive) {
    ++counters_.duplicates_received;
    return repeat(*connection);  // the RTU
  }
  if (connection->state == State::kRepReceived) {
    ++counters_.duplicates_received;
    wire::CmMra mra;
    mra.local_id = connection->id.value;
    mra.remote_id = connection->remote_id;
    mra.answered = wire::CmAnswered::kRep;
    mra.service_timeout = config_.service_timeout;
    return send(connection->path, connection->transaction, mra);
  }
  if (connection->state != State::kReqSent) {
    ++counters_.drop_wrong_state;
    return;
  }
  connection->state = State::kRepReceived;
  schedule(*connection, base::kNever);
  connection->remote_id = rep.local_id;
  Terms& terms = connection->terms;
  terms.remote_qpn = rep.local_qpn;
  terms.send_psn = rep.starting_psn;
  terms.responder_resources = rep.initiator_depth;
  terms.initiator_depth = rep.responder_resources;
  terms.rnr_retry_count = rep.rnr_retry_count;
  terms.flow_control = rep.flow_control;
  terms.srq = rep.srq;
  const RemoteKey key{from.remote, rep.local_qpn};
  connection->indexed_qpn = by_remote_qpn_.emplace(key, connection->id).second;
  tell(*connection, EventKind::kReply, rep);
}

Result<void> Manager::ready(ConnectionId id, base::TimeNs) {
  Connection* connection = find(id);
  if (connection == nullptr) return no_such_connection();
  if (connection->state != State::kRepReceived) return wrong_state();
  connection->state = State::kEstablished;
  wire::CmRtu rtu;
  rtu.local_id = connection->id.value;
  rtu.remote_id = connection->remote_id;
  say(*connection, rtu);
  return {};
}

void Manager::on_message(const wire::CmMra& mra, const Path& from, uint64_t, base::TimeNs now) {
  Connection* connection = find_from(mra.remote_id, mra.local_id, from.remote);
  if (connection == nullptr) return;
  const bool awaited =
      (mra.answered == wire::CmAnswered::kReq && connection->state == State::kReqSent) ||
      (mra.answered == wire::CmAnswered::kRep && connection->state == State::kRepSent);
  if (!awaited) {
    ++counters_.drop_wrong_state;
    return;
  }
  schedule(*connection, now + duration_ns(mra.service_timeout) + config_.resend_ns);
}

Manager::Connection* Manager::find_rejected(const wire::CmRej& rej, const wire::IpAddress& source) {
  if (rej.remote_id != 0 || rej.reason != wire::CmRejectReason::kTimeout) {
    return find_from(rej.remote_id, rej.local_id, source);
  }
  // A peer that gave up without an answer does not know our number.
  const auto found = by_remote_id_.find({source, rej.local_id});
  if (found == by_remote_id_.end()) {
    ++counters_.drop_unknown_id;
    return nullptr;
  }
  return connections_.at(found->second.value).get();
}

void Manager::on_message(const wire::CmRej& rej, const Path& from, uint64_t, base::TimeNs now) {
  Connection* connection = find_rejected(rej, from.remote);
  if (connection == nullptr) return;
  switch (connection->state) {
    case State::kReqSent:
    case State::kReqReceived:
    case State::kRepSent:
    case State::kRepReceived:
      tell(*connection, EventKind::kRejected, rej);
      return connection->released ? erase(*connection) : end(*connection);
    case State::kEstablished:
    case State::kDreqSent:
      // The peer has no such connection any more.
      tell(*connection, EventKind::kDisconnected);
      return enter_timewait(*connection, now);
    case State::kIdle:
    case State::kDreqReceived:
    case State::kTimewait:
    case State::kRejected:
    case State::kSidrReqSent:
    case State::kSidrReqReceived: ++counters_.drop_wrong_state;
  }
}

void Manager::say_reject(Connection& connection, wire::CmRejectReason reason,
                         std::span<const uint8_t> private_data, base::TimeNs now) {
  wire::CmRej rej;
  rej.local_id = connection.id.value;
  rej.remote_id = connection.remote_id;
  rej.answered = connection.state == State::kReqReceived   ? wire::CmAnswered::kReq
                 : connection.state == State::kRepReceived ? wire::CmAnswered::kRep
                                                           : wire::CmAnswered::kOther;
  rej.reason = reason;
  std::copy(private_data.begin(), private_data.end(), rej.private_data.begin());
  say(connection, rej);
  connection.state = State::kRejected;
  schedule(connection, now + duration_ns(connection.terms.ack_timeout) + config_.resend_ns);
}

Result<void> Manager::reject(ConnectionId id, std::span<const uint8_t> private_data,
                             base::TimeNs now) {
  Connection* connection = find(id);
  if (connection == nullptr) return no_such_connection();
  if (private_data.size() > wire::kRejPrivateBytes) return too_long();
  if (connection->state != State::kReqReceived && connection->state != State::kRepSent &&
      connection->state != State::kRepReceived) {
    return wrong_state();
  }
  say_reject(*connection, wire::CmRejectReason::kConsumer, private_data, now);
  return {};
}

void Manager::give_up(Connection& connection) {
  wire::CmRej rej;
  rej.local_id = connection.id.value;
  rej.remote_id = connection.remote_id;
  rej.answered =
      connection.state == State::kReqSent ? wire::CmAnswered::kReq : wire::CmAnswered::kRep;
  rej.reason = wire::CmRejectReason::kTimeout;
  rej.info_length = kGuidBytes;
  base::store_be<uint64_t>(rej.info.data(), config_.ca_guid);
  send(connection.path, connection.transaction, rej);
}

}  // namespace flexins::cm
