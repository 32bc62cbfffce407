#include "cm/errors.h"
#include "cm/manager.h"

/// The end of a connection: DREQ, DREP.

namespace flexins::cm {

using base::Result;

void Manager::say_dreq(Connection& connection, base::TimeNs now) {
  wire::CmDreq dreq;
  dreq.local_id = connection.id.value;
  dreq.remote_id = connection.remote_id;
  dreq.remote_qpn = connection.terms.remote_qpn;
  connection.state = State::kDreqSent;
  say_until_answered(connection, dreq, now);
}

void Manager::say_drep(Connection& connection, base::TimeNs now) {
  wire::CmDrep drep;
  drep.local_id = connection.id.value;
  drep.remote_id = connection.remote_id;
  say(connection, drep);
  enter_timewait(connection, now);
}

Result<void> Manager::disconnect(ConnectionId id, base::TimeNs now) {
  Connection* connection = find(id);
  if (connection == nullptr) return no_such_connection();
  switch (connection->state) {
    case State::kEstablished:
    case State::kRepSent:  // the RTU may just have been lost
      say_dreq(*connection, now);
      return {};
    case State::kDreqReceived: say_drep(*connection, now); return {};
    case State::kDreqSent:
    case State::kTimewait: return {};  // both ends had the same idea
    default: return wrong_state();
  }
}

void Manager::on_message(const wire::CmDreq& dreq, const Path& from, uint64_t transaction,
                         base::TimeNs now) {
  const auto known = connections_.find(dreq.remote_id);
  if (known == connections_.end()) {
    // Long over here: so that the peer comes to its end.
    wire::CmDrep drep;
    drep.local_id = dreq.remote_id;
    drep.remote_id = dreq.local_id;
    ++counters_.drop_unknown_id;
    return send(from, transaction, drep);
  }
  Connection* connection = find_from(dreq.remote_id, dreq.local_id, from.remote);
  if (connection == nullptr) return;
  if (dreq.remote_qpn != connection->terms.local_qpn) {
    ++counters_.drop_unknown_id;
    return;
  }
  switch (connection->state) {
    case State::kEstablished:
    case State::kRepSent:
      connection->state = State::kDreqReceived;
      connection->transaction = transaction;
      schedule(*connection, base::kNever);
      return tell(*connection, EventKind::kDisconnectRequest, dreq);
    case State::kDreqSent:
      // Two requests have crossed: each answers the other.
      connection->transaction = transaction;
      tell(*connection, EventKind::kDisconnected);
      return say_drep(*connection, now);
    case State::kTimewait: {
      ++counters_.duplicates_received;
      wire::CmDrep drep;
      drep.local_id = connection->id.value;
      drep.remote_id = connection->remote_id;
      return send(connection->path, transaction, drep);
    }
    case State::kDreqReceived: ++counters_.duplicates_received; return;
    default: ++counters_.drop_wrong_state;
  }
}

void Manager::on_message(const wire::CmDrep& drep, const Path& from, uint64_t, base::TimeNs now) {
  Connection* connection = find_from(drep.remote_id, drep.local_id, from.remote);
  if (connection == nullptr) return;
  if (connection->state != State::kDreqSent) {
    const bool crossed = connection->state == State::kTimewait;
    ++(crossed ? counters_.duplicates_received : counters_.drop_wrong_state);
    return;
  }
  tell(*connection, EventKind::kDisconnected, drep);
  enter_timewait(*connection, now);
}

}  // namespace flexins::cm
