#include "cm/manager.h"

/// What happens when nothing happens.

namespace flexins::cm {

base::TimeNs Manager::next_deadline() const {
  return deadlines_.empty() ? base::kNever : deadlines_.begin()->first;
}

void Manager::on_deadline(base::TimeNs now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Connection& connection = *connections_.at(deadlines_.begin()->second);
    schedule(connection, base::kNever);
    on_silence(connection, now);
  }
}

void Manager::on_silence(Connection& connection, base::TimeNs now) {
  if (connection.state == State::kTimewait || connection.state == State::kRejected) {
    // A service request that was answered has no such state in the eyes of its application.
    const bool was_connected = connection.state == State::kTimewait &&
                               !std::holds_alternative<wire::CmSidrRep>(connection.sent);
    if (was_connected) tell(connection, EventKind::kTimewaitExit);
    return connection.released ? erase(connection) : end(connection);
  }
  if (connection.retries < config_.retries_max) {
    ++connection.retries;
    ++counters_.retransmitted;
    repeat(connection);
    return schedule(connection, now + config_.resend_ns);
  }
  if (connection.state == State::kDreqSent) {
    tell(connection, EventKind::kDisconnected);
    if (!connection.released) events_.back().timed_out = true;
    return enter_timewait(connection, now);
  }
  if (connection.state != State::kSidrReqSent) give_up(connection);
  tell(connection, EventKind::kUnreachable);
  return connection.released ? erase(connection) : end(connection);
}

}  // namespace flexins::cm
