#include <algorithm>
#include <cstring>

#include "sim/connection.h"

/// Connecting and parting by the communication manager.

namespace flexins::sim {

void Connection::connect_by_cm() {
  Side& active = sides_[0];
  create(active, 0);
  state_ = State::kConnecting;
  cm::ConnectRequest request;
  request.path.local = Fabric::address(host(active).number(), terms_.v6);
  request.path.remote = Fabric::address(host(sides_[1]).number(), terms_.v6);
  request.service_id = Host::kService;
  cm::Terms& terms = request.terms;
  terms.local_qpn = active.endpoint->qpn.value;
  terms.responder_resources = terms.initiator_depth = terms_.rd_atomic;
  terms.retry_count = terms_.retry_count;
  terms.rnr_retry_count = terms_.rnr_retry;
  terms.path_mtu = terms_.path_mtu;
  terms.ack_timeout = terms_.timeout;
  uint8_t number[sizeof number_ + sizeof opened_];
  std::memcpy(number, &number_, sizeof number_);
  std::memcpy(number + sizeof number_, &opened_, sizeof opened_);
  request.private_data = number;
  auto id = host(active).manager().connect(request, around_.events.now());
  if (!id.ok()) return begin_failing();
  active.cm_id = *id;
  active.has_cm_id = true;
  host(active).kick();
}

bool Connection::knows(const Host& at, cm::ConnectionId id) const {
  return std::any_of(std::begin(sides_), std::end(sides_), [&](const Side& side) {
    return side.has_cm_id && &side.application->host() == &at && side.cm_id == id;
  });
}

void Connection::on_cm_event(Host& at, const cm::Event& event) {
  switch (event.kind) {
    case cm::EventKind::kRequest: return on_request(at, event);
    case cm::EventKind::kReply: return on_reply();
    case cm::EventKind::kDisconnectRequest:
      static_cast<void>(at.manager().disconnect(event.connection, around_.events.now()));
      if (state_ == State::kOpen || state_ == State::kDraining) begin_failing();
      return;
    case cm::EventKind::kRejected:
    case cm::EventKind::kUnreachable:
      if (state_ == State::kConnecting) begin_failing();
      return;
    default: return;
  }
}

void Connection::on_request(Host& at, const cm::Event& event) {
  Side& passive = sides_[1];
  const auto& request = std::get<wire::CmReq>(event.body);
  uint64_t attempt = 0;
  std::memcpy(&attempt, request.private_data.data() + sizeof number_, sizeof attempt);
  at.manager().request_taken(event.listener);
  const base::TimeNs now = around_.events.now();
  const bool wanted = state_ == State::kConnecting && attempt == opened_ && !passive.has_cm_id &&
                      passive.application->alive() && !passive.application->stalled() &&
                      sides_[0].usable();
  if (!wanted) {
    static_cast<void>(at.manager().reject(event.connection, {}, now));
    return at.manager().release(event.connection, now);
  }
  passive.cm_id = event.connection;
  passive.has_cm_id = true;
  create(passive, 1);
  sides_[0].endpoint->ledger->peer = passive.endpoint->ledger;
  passive.endpoint->ledger->peer = sides_[0].endpoint->ledger;
  const cm::Terms& terms = *at.manager().terms(event.connection);
  if (terms.remote_qpn != sides_[0].endpoint->qpn.value) {
    return around_.oracle.violate("CM terms", passive.endpoint->ledger, "another QP than asked");
  }
  modify_to_ready(passive, terms.receive_psn.value(), terms.send_psn.value(), terms.remote_qpn,
                  *sides_[0].application);
  cm::AcceptReply reply;
  reply.local_qpn = passive.endpoint->qpn.value;
  reply.responder_resources = reply.initiator_depth = terms_.rd_atomic;
  reply.rnr_retry_count = terms_.rnr_retry;
  static_cast<void>(at.manager().accept(event.connection, reply, now));
}

void Connection::on_reply() {
  Side& active = sides_[0];
  if (state_ != State::kConnecting || !active.usable()) return;
  // The passive application may have died in between; that is found out later.
  if (!sides_[1].usable()) return begin_failing();
  cm::Manager& manager = host(active).manager();
  const cm::Terms& terms = *manager.terms(active.cm_id);
  if (terms.remote_qpn != sides_[1].endpoint->qpn.value) {
    return around_.oracle.violate("CM terms", active.endpoint->ledger, "another QP than accepted");
  }
  modify_to_ready(active, terms.receive_psn.value(), terms.send_psn.value(), terms.remote_qpn,
                  *sides_[1].application);
  static_cast<void>(manager.ready(active.cm_id, around_.events.now()));
  come_up();
}

void Connection::disconnect(Side& side) {
  if (!side.has_cm_id) return;
  side.has_cm_id = false;
  Host& at = host(side);
  if (!at.alive()) return;
  static_cast<void>(at.manager().disconnect(side.cm_id, around_.events.now()));
  at.manager().release(side.cm_id, around_.events.now());
  at.kick();
}

}  // namespace flexins::sim
