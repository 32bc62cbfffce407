#include "cm/manager.h"

#include <cerrno>

#include "base/check.h"
#include "cm/durations.h"

namespace flexins::cm {

using base::Error;
using base::Result;

Manager::Manager(const Config& config, base::RandomSource& random)
    : config_(config), random_(random) {}

Result<ListenerId> Manager::listen(uint64_t service_id, const wire::IpAddress& address,
                                   uint32_t backlog) {
  for (const auto& [id, listener] : listeners_) {
    if (listener.service_id == service_id && listener.address == address) {
      return Error{EADDRINUSE, "somebody listens there already"};
    }
  }
  const ListenerId id{++last_listener_};
  listeners_[id.value] = Listener{service_id, address, backlog, 0};
  return id;
}

void Manager::request_taken(ListenerId id) {
  const auto found = listeners_.find(id.value);
  if (found != listeners_.end() && found->second.waiting > 0) --found->second.waiting;
}

void Manager::stop_listening(ListenerId id) { listeners_.erase(id.value); }

Manager::Listener* Manager::find_listener(uint64_t service_id, const wire::IpAddress& address,
                                          ListenerId& id) {
  // The more exactly a listener names the address, the more it is meant.
  static constexpr uint8_t kAny[4] = {};
  const auto any_v4 = wire::IpAddress::from_v4(kAny);
  for (const wire::IpAddress& wanted : {address, any_v4, wire::IpAddress{}}) {
    if (wanted == any_v4 && !address.is_v4()) continue;
    for (auto& [number, listener] : listeners_) {
      if (listener.service_id != service_id || listener.address != wanted) continue;
      id = ListenerId{number};
      return &listener;
    }
  }
  return nullptr;
}

Manager::Connection* Manager::find(ConnectionId id) {
  const auto found = connections_.find(id.value);
  return found == connections_.end() || found->second->released ? nullptr : found->second.get();
}

const Manager::Connection* Manager::find(ConnectionId id) const {
  return const_cast<Manager*>(this)->find(id);
}

Manager::Connection* Manager::find_from(uint32_t local_id, uint32_t remote_id,
                                        const wire::IpAddress& source) {
  const auto found = connections_.find(local_id);
  if (found == connections_.end()) {
    ++counters_.drop_unknown_id;
    return nullptr;
  }
  Connection& connection = *found->second;
  if (connection.path.remote != source) {
    ++counters_.drop_wrong_source;
    return nullptr;
  }
  if (connection.remote_id != 0 && connection.remote_id != remote_id) {
    ++counters_.drop_unknown_id;
    return nullptr;
  }
  return &connection;
}

Manager::Connection* Manager::create() {
  if (connections_.size() >= config_.connections_max) return nullptr;
  for (;;) {
    const auto id = static_cast<uint32_t>(random_.next());
    if (id == 0 || connections_.contains(id)) continue;
    auto connection = std::make_unique<Connection>();
    connection->id = ConnectionId{id};
    connection->transaction = random_.next();
    connection->terms.receive_psn = base::Psn(static_cast<uint32_t>(random_.next()));
    return connections_.emplace(id, std::move(connection)).first->second.get();
  }
}

void Manager::erase(Connection& connection) {
  end(connection);
  connections_.erase(connection.id.value);
}

void Manager::end(Connection& connection) {
  schedule(connection, base::kNever);
  const RemoteKey id{connection.path.remote, connection.remote_id};
  const RemoteKey qpn{connection.path.remote, connection.terms.remote_qpn};
  if (connection.indexed_id) by_remote_id_.erase(id);
  if (connection.indexed_qpn) by_remote_qpn_.erase(qpn);
  connection.indexed_id = connection.indexed_qpn = false;
  connection.state = State::kIdle;
}

void Manager::schedule(Connection& connection, base::TimeNs deadline) {
  if (connection.deadline != base::kNever) {
    deadlines_.erase({connection.deadline, connection.id.value});
  }
  connection.deadline = deadline;
  if (deadline != base::kNever) deadlines_.insert({deadline, connection.id.value});
}

void Manager::send(const Path& path, uint64_t transaction, const wire::CmBody& body) {
  OutgoingMad& mad = outgoing_.emplace_back();
  mad.path = path;
  wire::emit_cm({transaction, body}, mad.bytes);
  ++counters_.mads_sent;
}

void Manager::say(Connection& connection, wire::CmBody body) {
  connection.sent = std::move(body);
  repeat(connection);
}

void Manager::say_until_answered(Connection& connection, wire::CmBody body, base::TimeNs now) {
  say(connection, std::move(body));
  connection.retries = 0;
  schedule(connection, now + config_.resend_ns);
}

void Manager::repeat(const Connection& connection) {
  send(connection.path, connection.transaction, connection.sent);
}

void Manager::tell(const Connection& connection, EventKind kind, const wire::CmBody& body) {
  if (connection.released) return;
  Event& event = events_.emplace_back();
  event.kind = kind;
  event.connection = connection.id;
  event.body = body;
}

void Manager::tell(const Connection& connection, EventKind kind) {
  tell(connection, kind, wire::CmBody{});
}

void Manager::enter_timewait(Connection& connection, base::TimeNs now) {
  connection.state = State::kTimewait;
  schedule(connection, now + duration_ns(connection.terms.ack_timeout));
}

void Manager::release(ConnectionId id, base::TimeNs now) {
  Connection* connection = find(id);
  if (connection == nullptr) return;
  using wire::CmRejectReason;
  switch (connection->state) {
    case State::kIdle:
    case State::kSidrReqSent: return erase(*connection);
    case State::kReqSent: give_up(*connection); return erase(*connection);
    case State::kReqReceived:
    case State::kRepSent:
    case State::kRepReceived: say_reject(*connection, CmRejectReason::kConsumer, {}, now); break;
    case State::kEstablished: say_dreq(*connection, now); break;
    case State::kDreqReceived: say_drep(*connection, now); break;
    case State::kSidrReqReceived:
      FLEXINS_CHECK(answer_service(id, wire::CmSidrStatus::kReject, 0, 0, {}, now).ok());
      break;
    case State::kDreqSent:
    case State::kTimewait:
    case State::kRejected: break;
  }
  connection->released = true;
  std::erase_if(events_, [id](const Event& event) { return event.connection == id; });
}

std::optional<State> Manager::state(ConnectionId id) const {
  const Connection* connection = find(id);
  if (connection == nullptr) return std::nullopt;
  return connection->state;
}

const Terms* Manager::terms(ConnectionId id) const {
  const Connection* connection = find(id);
  return connection == nullptr ? nullptr : &connection->terms;
}

const Path* Manager::path(ConnectionId id) const {
  const Connection* connection = find(id);
  return connection == nullptr ? nullptr : &connection->path;
}

void Manager::on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
                     std::span<const std::byte> mad, base::TimeNs now) {
  ++counters_.mads_received;
  wire::CmMessage message;
  const wire::CmParseError error = wire::parse_cm(mad, message);
  if (error != wire::CmParseError::kNone) {
    const bool unsupported =
        error == wire::CmParseError::kUnsupported || error == wire::CmParseError::kOtherClass;
    ++(unsupported ? counters_.drop_unsupported : counters_.drop_malformed);
    return;
  }
  Path from;
  from.local = destination;
  from.remote = source;
  std::visit([&](const auto& body) { on_message(body, from, message.transaction, now); },
             message.body);
}

bool Manager::next_mad(OutgoingMad& out) {
  if (outgoing_.empty()) return false;
  out = outgoing_.front();
  outgoing_.pop_front();
  return true;
}

bool Manager::next_event(Event& out) {
  if (events_.empty()) return false;
  out = std::move(events_.front());
  events_.pop_front();
  return true;
}

}  // namespace flexins::cm
