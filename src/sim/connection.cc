#include "sim/connection.h"

#include <algorithm>

#include "base/check.h"

/// How a pair of QPs comes into being and goes. What it does meanwhile: connection_post.cc.

namespace flexins::sim {

using base::QpState;
using base::QpType;

namespace {

constexpr uint32_t kReceiveBudgetBytes = 512 * 1024;
constexpr uint32_t kGlobalRouteBytes = 40;
constexpr uint32_t kAccess =
    base::kAccessRemoteWrite | base::kAccessRemoteRead | base::kAccessRemoteAtomic;
/// Patience of a connection that waits for its manager.
constexpr base::TimeNs kConnectNs = 3 * base::kSecond;

uint32_t mtu_bytes(uint8_t code) { return 128u << code; }

}  // namespace

Connection::Connection(Surroundings& around, Pace& pace, Application& a, Application& b,
                       uint32_t number, Random random)
    : around_(around), pace_(pace), number_(number), random_(random) {
  sides_[0].application = &a;
  sides_[1].application = &b;
  around_.events.after(random_.spread(1, 100'000), *this);
}

Connection::~Connection() = default;

void Connection::draw_terms() {
  const Scenario& scenario = around_.scenario;
  terms_ = Terms{};
  Terms& t = terms_;
  const uint64_t kind = random_.below(10);
  t.type = kind < 7 ? QpType::kReliable : kind < 9 ? QpType::kUnreliable : QpType::kDatagram;
  t.v6 = random_.chance(0.3);
  t.by_cm = t.type == QpType::kReliable && random_.chance(0.5);
  t.path_mtu = static_cast<uint8_t>(scenario.mostly_large ? 5 : random_.between(1, 5));
  t.timeout = static_cast<uint8_t>(random_.between(12, 16));
  t.retry_count = static_cast<uint8_t>(random_.chance(0.5) ? 7 : random_.between(1, 7));
  t.rnr_retry = static_cast<uint8_t>(random_.chance(0.7) ? 7 : random_.between(0, 6));
  t.min_rnr_timer = static_cast<uint8_t>(random_.between(1, 14));
  t.rd_atomic = static_cast<uint8_t>(random_.spread(1, 16));
  t.traffic_class = random_.chance(0.5) ? 2 : 0;
  t.psn[0] = static_cast<uint32_t>(random_.chance(0.3) ? base::Psn::kMask - random_.below(300)
                                                       : random_.next() & base::Psn::kMask);
  t.psn[1] = static_cast<uint32_t>(random_.next() & base::Psn::kMask);
  t.qkey = static_cast<uint32_t>(random_.next() & 0x7fff'ffff);
  constexpr uint32_t kLongest = 1 << 20;
  t.message_bytes_max =
      static_cast<uint32_t>(random_.spread(scenario.mostly_large ? 64 * 1024 : 1, kLongest));
  if (t.type == QpType::kDatagram) {
    t.message_bytes_max = std::min(t.message_bytes_max, mtu_bytes(t.path_mtu));
  }
  t.signal_period = static_cast<uint32_t>(random_.spread(1, 16));
  t.starves = random_.chance(scenario.faults[FaultKind::kStarvation]);
  t.illegal = random_.chance(0.15) ? 0.01 : 0;
  t.leases = t.type == QpType::kReliable && random_.chance(0.3);
  for (EndpointOptions& o : t.options) {
    o.type = t.type;
    o.cq = static_cast<uint32_t>(random_.below(2));
    o.max_send_wr = static_cast<uint32_t>(random_.spread(1, 32));
    const uint32_t fits = kReceiveBudgetBytes / (t.message_bytes_max + kGlobalRouteBytes);
    o.max_receive_wr = std::clamp(static_cast<uint32_t>(random_.spread(1, 32)), 1u, fits + 1);
    o.max_sge = static_cast<uint32_t>(random_.spread(1, 32));
    o.max_inline_bytes = static_cast<uint32_t>(random_.chance(0.3) ? 0 : random_.spread(16, 512));
    o.signal_all = random_.chance(0.1);
    o.shared_receives =
        t.message_bytes_max + kGlobalRouteBytes <= Application::kSharedReceiveBytes &&
        random_.chance(0.3);
  }
}

void Connection::open() {
  for (const Side& side : sides_) {
    if (!side.application->alive() || side.application->stalled()) return;
  }
  draw_terms();
  ++opened_;
  state_since_ = around_.events.now();
  if (terms_.by_cm) return connect_by_cm();
  create(sides_[0], 0);
  create(sides_[1], 1);
  connect_directly();
}

void Connection::create(Side& side, int index) {
  EndpointOptions& options = terms_.options[index];
  if (random_.chance(around_.scenario.faults[FaultKind::kOverrun])) {
    options.cq = side.own_cq = side.application->create_cq(1u << random_.between(1, 5), true);
  } else {
    side.own_cq = 0;
  }
  side.endpoint = side.application->create_endpoint(options);
  side.endpoint->handler = &side;
  side.endpoint->ledger->retry_count = terms_.retry_count;
  side.endpoint->ledger->rnr_retry = terms_.rnr_retry;
  base::QpAttributes a;
  a.state = QpState::kInit;
  a.port_number = 1;
  a.access_flags = kAccess;
  a.qkey = terms_.qkey;
  const bool datagram = terms_.type == QpType::kDatagram;
  const uint32_t mask = base::kQpState | base::kQpPkeyIndex | base::kQpPort |
                        (datagram ? base::kQpQkey : base::kQpAccessFlags);
  FLEXINS_CHECK(
      host(side)
          .engine()
          .modify_qp(side.application->context(), side.endpoint->qpn, a, mask, around_.events.now())
          .ok());
  if (!terms_.starves) post_receives(side);
}

void Connection::modify_to_ready(Side& side, uint32_t rq_psn, uint32_t sq_psn, uint32_t peer_qpn,
                                 const Application& peer) {
  engine::Engine& engine = host(side).engine();
  const base::ContextId context = side.application->context();
  const base::TimeNs now = around_.events.now();
  base::QpAttributes a;
  a.state = QpState::kReadyToReceive;
  a.path_mtu = terms_.path_mtu;
  a.destination_qpn = peer_qpn;
  a.rq_psn = rq_psn;
  a.max_dest_rd_atomic = terms_.rd_atomic;
  a.min_rnr_timer = terms_.min_rnr_timer;
  a.address.destination_gid = Fabric::address(peer.host().number(), terms_.v6).bytes;
  a.address.source_gid_index = terms_.v6 ? 1 : 0;
  a.address.traffic_class = terms_.traffic_class;
  a.address.is_global = 1;
  a.address.port_number = 1;
  uint32_t mask = base::kQpState;
  if (terms_.type != QpType::kDatagram) {
    mask |= base::kQpAddressVector | base::kQpPathMtu | base::kQpDestQpn | base::kQpRqPsn;
  }
  if (terms_.type == QpType::kReliable) mask |= base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer;
  FLEXINS_CHECK(engine.modify_qp(context, side.endpoint->qpn, a, mask, now).ok());
  a.state = QpState::kReadyToSend;
  a.sq_psn = sq_psn;
  a.timeout = terms_.timeout;
  a.retry_count = terms_.retry_count;
  a.rnr_retry = terms_.rnr_retry;
  a.max_rd_atomic = terms_.rd_atomic;
  mask = base::kQpState | base::kQpSqPsn;
  if (terms_.type == QpType::kReliable) {
    mask |= base::kQpTimeout | base::kQpRetryCount | base::kQpRnrRetry | base::kQpMaxRdAtomic;
  }
  FLEXINS_CHECK(engine.modify_qp(context, side.endpoint->qpn, a, mask, now).ok());
  if (terms_.type == QpType::kDatagram) {
    side.ah = engine.create_ah(context, side.application->pd(), a.address).value();
    side.has_ah = true;
  }
  host(side).kick();
}

void Connection::connect_directly() {
  modify_to_ready(sides_[0], terms_.psn[1], terms_.psn[0], sides_[1].endpoint->qpn.value,
                  *sides_[1].application);
  modify_to_ready(sides_[1], terms_.psn[0], terms_.psn[1], sides_[0].endpoint->qpn.value,
                  *sides_[0].application);
  come_up();
}

void Connection::come_up() {
  sides_[0].endpoint->ledger->peer = sides_[1].endpoint->ledger;
  sides_[1].endpoint->ledger->peer = sides_[0].endpoint->ledger;
  state_ = State::kOpen;
  state_since_ = around_.events.now();
}

bool Connection::in_trouble() const {
  return std::any_of(std::begin(sides_), std::end(sides_), [](const Side& side) {
    return !side.usable() || side.endpoint->ledger->failed || side.endpoint->ledger->may_fail;
  });
}

void Connection::on_event(uint64_t, base::TimeNs now) {
  base::TimeNs next = random_.spread(1'000, around_.scenario.think_ns);
  switch (state_) {
    case State::kClosed:
      if (!pace_.more()) break;
      open();
      break;
    case State::kConnecting:
      if (now > state_since_ + kConnectNs || !sides_[0].usable()) begin_failing();
      break;
    case State::kOpen:
    case State::kDraining: work(); break;
    case State::kFailing: finish(); break;
  }
  // Nothing happens by itself: this one has to come again.
  if (!pace_.active && closed()) return;
  constexpr base::TimeNs kIdleNs = 100'000;
  around_.events.after(pace_.active ? next : std::max(next, kIdleNs), *this);
}

void Connection::work() {
  if (in_trouble()) return begin_failing();
  if (state_ == State::kOpen && !pace_.more()) state_ = State::kDraining;
  const bool churns = around_.scenario.profile == Profile::kChurn;
  if (state_ == State::kOpen && random_.chance(churns ? 0.02 : 0.001)) {
    if (random_.chance(0.3)) return begin_failing();
    state_ = State::kDraining;
  }
  for (Side& side : sides_) {
    if (!side.ready()) continue;
    const bool late = terms_.starves && state_ == State::kOpen && !random_.chance(0.1);
    if (!late && !post_receives(side) && state_ == State::kDraining) return begin_failing();
    if (state_ != State::kOpen) continue;
    if (terms_.leases) churn_leases(side);
    const uint64_t burst = random_.spread(1, 8);
    for (uint64_t i = 0; i < burst && pace_.more(); ++i) {
      if (!post_one(side, other(side))) break;
      ++pace_.operations;
    }
  }
  if (state_ != State::kDraining) return;
  for (Side& side : sides_) {
    const auto& sends = side.endpoint->ledger->sends;
    // Or nobody would hear of the end of what asked for no completion.
    if (side.ready() && !sends.empty() && !sends.back().signalled) post_last(side);
    if (!around_.oracle.drained(*side.endpoint->ledger)) return;
  }
  begin_failing();
}

void Connection::begin_failing() {
  state_ = State::kFailing;
  state_since_ = around_.events.now();
  for (Side& side : sides_) {
    disconnect(side);
    if (!side.usable()) continue;
    // Some are destroyed as they are, the others first flushed.
    if (random_.chance(0.8)) fail(side);
  }
}

void Connection::fail(Side& side) {
  around_.oracle.may_fail(*side.endpoint->ledger, "moved to the error state");
  base::QpAttributes a;
  a.state = QpState::kError;
  if (!host(side)
           .engine()
           .modify_qp(side.application->context(), side.endpoint->qpn, a, base::kQpState,
                      around_.events.now())
           .ok()) {
    around_.oracle.violate("error state", side.endpoint->ledger, "a QP does not go to it");
  }
  side.failed_on_purpose = true;
  host(side).observe();
  host(side).kick();
}

void Connection::finish() {
  // The engines have had a round or two, and what they flushed has been judged.
  if (around_.events.now() < state_since_ + 50'000) return;
  for (Side& side : sides_) {
    if (side.usable() && side.application->stalled()) return;
  }
  for (Side& side : sides_) {
    if (side.usable()) destroy(side);
  }
  if (sides_[0].endpoint != nullptr) around_.oracle.pair_destroyed(*sides_[0].endpoint->ledger);
  if (sides_[1].endpoint != nullptr) around_.oracle.pair_destroyed(*sides_[1].endpoint->ledger);
  for (Side& side : sides_) {
    give_back_leases(side);
    side.endpoint.reset();
  }
  state_ = State::kClosed;
  state_since_ = around_.events.now();
}

void Connection::destroy(Side& side) {
  host(side).observe();
  QpLedger& ledger = *side.endpoint->ledger;
  if (side.failed_on_purpose || ledger.failed) around_.oracle.check_flushed(ledger);
  side.application->destroy_endpoint(*side.endpoint);
  engine::Engine& engine = host(side).engine();
  if (side.has_ah && !engine.destroy_ah(side.application->context(), side.ah).ok()) {
    around_.oracle.violate("resources", &ledger, "an address handle cannot be destroyed");
  }
  if (side.own_cq != 0) side.application->destroy_cq(side.own_cq);
}

std::string Connection::describe() const {
  static constexpr const char* kStates[] = {"closed", "connecting", "open", "draining", "failing"};
  std::string text =
      "connection " + std::to_string(number_) + " is " + kStates[static_cast<int>(state_)] + "\n";
  for (const Side& side : sides_) {
    if (side.endpoint != nullptr) text += side.endpoint->ledger->describe();
  }
  return text;
}

}  // namespace flexins::sim
