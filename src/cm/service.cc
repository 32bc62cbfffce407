#include <algorithm>
#include <cerrno>

#include "cm/durations.h"
#include "cm/errors.h"
#include "cm/manager.h"

/// Service id resolution, for datagrams: SIDR_REQ, SIDR_REP.

namespace flexins::cm {

using base::Error;
using base::Result;

namespace {

/// How long an answer is kept, to be given again.
constexpr base::TimeNs kAnswerKeptNs = 2 * base::kSecond;

}  // namespace

Result<ConnectionId> Manager::resolve_service(const Path& path, uint64_t service_id,
                                              std::span<const uint8_t> private_data,
                                              base::TimeNs now) {
  if (private_data.size() > wire::kSidrReqPrivateBytes) return too_long();
  Connection* connection = create();
  if (connection == nullptr) return Error{ENOMEM, "no room for a further request"};
  connection->path = path;
  connection->service_id = service_id;
  connection->state = State::kSidrReqSent;
  wire::CmSidrReq req;
  req.request_id = connection->id.value;
  req.service_id = service_id;
  std::copy(private_data.begin(), private_data.end(), req.private_data.begin());
  say_until_answered(*connection, req, now);
  return connection->id;
}

void Manager::on_message(const wire::CmSidrReq& req, const Path& from, uint64_t transaction,
                         base::TimeNs) {
  const RemoteKey key{from.remote, req.request_id};
  if (const auto known = by_remote_id_.find(key); known != by_remote_id_.end()) {
    ++counters_.duplicates_received;
    const Connection& connection = *connections_.at(known->second.value);
    if (connection.state == State::kTimewait) repeat(connection);
    return;
  }
  ListenerId listener_id;
  Listener* listener = find_listener(req.service_id, from.local, listener_id);
  if (listener == nullptr) {
    ++counters_.requests_rejected;
    wire::CmSidrRep rep;
    rep.request_id = req.request_id;
    rep.service_id = req.service_id;
    rep.status = wire::CmSidrStatus::kUnsupported;
    return send(from, transaction, rep);
  }
  Connection* connection =
      take_request(*listener, from, transaction, req.service_id, req.request_id);
  if (connection == nullptr) return;
  connection->state = State::kSidrReqReceived;
  tell(*connection, EventKind::kServiceRequest, req);
  events_.back().listener = listener_id;
}

Result<void> Manager::answer_service(ConnectionId id, wire::CmSidrStatus status, uint32_t qpn,
                                     uint32_t qkey, std::span<const uint8_t> private_data,
                                     base::TimeNs now) {
  Connection* connection = find(id);
  if (connection == nullptr) return no_such_connection();
  if (connection->state != State::kSidrReqReceived) return wrong_state();
  if (private_data.size() > wire::kSidrRepPrivateBytes) return too_long();
  wire::CmSidrRep rep;
  rep.request_id = connection->remote_id;
  rep.status = status;
  rep.qpn = qpn;
  rep.service_id = connection->service_id;
  rep.qkey = qkey;
  std::copy(private_data.begin(), private_data.end(), rep.private_data.begin());
  say(*connection, rep);
  connection->state = State::kTimewait;
  schedule(*connection, now + std::max(kAnswerKeptNs, 2 * config_.resend_ns));
  return {};
}

void Manager::on_message(const wire::CmSidrRep& rep, const Path& from, uint64_t, base::TimeNs) {
  Connection* connection = find_from(rep.request_id, 0, from.remote);
  if (connection == nullptr) return;
  if (connection->state != State::kSidrReqSent) {
    ++counters_.drop_wrong_state;
    return;
  }
  tell(*connection, EventKind::kServiceReply, rep);
  end(*connection);
}

}  // namespace flexins::cm
