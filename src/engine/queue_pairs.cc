#include <algorithm>
#include <cerrno>

#include "engine/engine_impl.h"

namespace flexins::engine {

using base::Error;
using base::Result;

namespace {

/// A window that a peer on this very engine cannot fill: what we send is placed in the same step.
constexpr uint64_t kLocalWindowBytes = 16 << 20;

uint32_t mtu_bytes(uint8_t code) { return 128u << code; }

bool known(base::QpType type) {
  return type == base::QpType::kReliable || type == base::QpType::kUnreliable ||
         type == base::QpType::kDatagram || type == base::QpType::kRawPacket ||
         type == base::QpType::kReceiveQueue || base::is_xrc(type);
}

bool may_use(const Context& context, const QueuePair& qp) {
  return qp.context == &context ||
         std::any_of(qp.openers.begin(), qp.openers.end(),
                     [&](const QueuePair::Opener& o) { return o.context == &context; });
}

/// UDP source port of a QP pair: spreads flows over equal-cost paths (IBTA annex A17.9.2).
uint16_t flow_port(base::Qpn a, uint32_t b) {
  const uint32_t mixed = (a.value ^ b) * 0x9e37'79b1u;
  return static_cast<uint16_t>(0xc000u | (mixed >> 18));
}

}  // namespace

void QueuePair::on_async_event(base::Qpn, base::AsyncEvent event) noexcept {
  if (openers.empty()) events.send(*context->events, cookie, event);
  for (Opener& opener : openers) {
    opener.events.send(*opener.context->events, opener.cookie, event);
  }
}

base::Qpn EngineImpl::unused_qpn() {
  // 0 and 1 are the management QPs, 2^24 - 1 is multicast.
  for (;;) {
    const auto qpn = static_cast<uint32_t>(config_.random->next()) & base::Psn::kMask;
    if (qpn > 1 && qpn < base::Psn::kMask && !qps_.contains(qpn) && !departed_.contains(qpn)) {
      return base::Qpn{qpn};
    }
  }
}

Result<QueuePair*> EngineImpl::find_qp(base::ContextId id, base::Qpn qpn) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto it = qps_.find(qpn.value);
  if (it == qps_.end() || !may_use(*context, *it->second)) {
    return Error{ENOENT, "no such queue pair in this context"};
  }
  return it->second;
}

Result<base::Qpn> EngineImpl::create_qp(base::ContextId id, const CreateQp& request,
                                        RingMemory receive_ring) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  if (request.type == base::QpType::kXrcReceive) return create_target(*context, request);
  const bool is_xrc = request.type == base::QpType::kXrcSend;
  const auto pd = context->pds.find(request.pd.value);
  const auto send_cq = context->cqs.find(request.send_cq.value);
  // An initiator receives nothing.
  const auto receive_cq = is_xrc ? send_cq : context->cqs.find(request.receive_cq.value);
  if (pd == context->pds.end() || send_cq == context->cqs.end() ||
      receive_cq == context->cqs.end() ||
      request.submission_ring >= context->submission_rings.size()) {
    return Error{EINVAL, "the PD, a CQ or the submission ring of this QP does not exist"};
  }
  if (!known(request.type)) {
    return Error{EOPNOTSUPP, "this engine has no queue pairs of this type"};
  }
  if (request.max_receive_wr > base::Limits::kMaxReceiveWr ||
      request.max_receive_sge > base::Limits::kMaxSge) {
    return Error{EINVAL, "receive queue limits exceeded"};
  }
  SharedReceives* shared = nullptr;
  if (request.srq.value != 0 && !is_xrc) {
    auto found = find_srq(id, request.srq);
    if (!found.ok()) return found.error();
    shared = *found;
    if (shared->config().domain != nullptr) {
      return Error{EINVAL, "an XRC SRQ serves XRC targets only"};
    }
  }
  const bool has_ring = shared == nullptr && !is_xrc;
  const uint32_t depth = pipe::round_up_power_of_two(std::max(1u, request.max_receive_wr));
  FLEXINS_CHECK(!has_ring ||
                receive_ring.bytes >= pipe::receive_ring_bytes(depth, request.max_receive_sge));

  QpParts parts;
  parts.send_cq = send_cq->second.get();
  parts.receive_cq = receive_cq->second.get();
  parts.shared = shared;
  if (has_ring) {
    parts.ring = pipe::ReceiveConsumer(receive_ring.base, depth, request.max_receive_sge);
  }
  auto qp = add_qp(*context, request, parts);
  if (!qp.ok()) return qp.error();
  return (*qp)->transport->config().qpn;
}

Result<QueuePair*> EngineImpl::add_qp(Context& context, const CreateQp& request,
                                      const QpParts& parts) {
  if (qps_.size() >= config_.qps_max) return Error{ENOMEM, "this engine holds no more QPs"};
  const base::Qpn qpn = unused_qpn();
  auto qp =
      std::make_unique<QueuePair>(&context, request, parts.send_cq, parts.receive_cq, parts.ring);
  qp->shared = parts.shared;
  qp->domain = parts.domain;
  transport::QpConfig config;
  config.qpn = qpn;
  config.pd = request.pd;
  config.type = request.type;
  config.max_send_wr = request.max_send_wr;
  config.max_send_sge = request.max_send_sge;
  config.max_inline_bytes = request.max_inline_bytes;
  config.signal_all = request.signal_all;
  config.regions = &regions_;
  config.send_cq = &qp->send_completions;
  config.receive_cq = &qp->receive_completions;
  config.receives = &qp->receives;
  if (base::is_xrc(request.type)) config.receives = &qp->no_receives;
  if (qp->shared != nullptr) config.receives = qp->shared;
  config.shared_receives = qp->shared != nullptr || qp->domain != nullptr;
  config.domain = qp->domain;
  config.observer = qp.get();
  config.read_chunk_bytes = config_.read_chunk_bytes;
  config.frame_bytes_max = std::min(config_.frame_bytes_max, kRawFrameBytes);
  auto created = transport::Qp::create(config);
  if (!created.ok()) return created.error();
  qp->transport = std::move(created).value();
  qp->timer.owner = qp.get();
  qp->pacing_timer.owner = qp.get();
  if (qp->is_raw()) {
    if (auto started = start_raw(); !started.ok()) return started.error();
  }

  if (qp->domain == nullptr) {
    ++context.pds[request.pd.value];
    ++parts.send_cq->users;
    ++parts.receive_cq->users;
  }
  if (qp->shared != nullptr) ++qp->shared->users;
  QueuePair* const added = qp.get();
  qps_.emplace(qpn.value, added);
  context.qps.emplace(qpn.value, std::move(qp));
  return added;
}

Result<wire::Path> EngineImpl::make_path(const base::AddressVector& to, uint32_t mtu_bytes) {
  if (to.is_global == 0) {
    return Error{EINVAL, "RoCE needs a global route: set is_global and the GRH of the address"};
  }
  if (to.source_gid_index >= config_.addresses.size()) {
    return Error{EINVAL, "sgid_index is beyond the port's GID table"};
  }
  const LocalAddress& from = config_.addresses[to.source_gid_index];
  const wire::IpAddress destination = wire::IpAddress::from_gid(to.destination_gid.data());
  if (from.address.is_v4() != destination.is_v4()) {
    return Error{EINVAL, "source and destination GID are of different IP versions"};
  }
  // Without a network, a group is who has joined it here.
  const bool is_local =
      std::any_of(config_.addresses.begin(), config_.addresses.end(),
                  [&](const LocalAddress& a) { return a.address == destination; }) ||
      (destination.is_multicast() && config_.network == nullptr);
  if (!is_local && config_.network == nullptr) {
    return Error{ENETUNREACH, "this engine has no network port and the GID is not its own"};
  }
  if (!is_local && mtu_bytes > from.mtu_bytes) {
    return Error{EINVAL, "path_mtu is larger than the active_mtu of " + from.interface};
  }
  wire::Path path;
  path.source = from.address;
  path.destination = destination;
  path.traffic_class = to.traffic_class;
  path.hop_limit = to.hop_limit == 0 ? 64 : to.hop_limit;
  path.is_local = is_local;
  return path;
}

Result<void> EngineImpl::connect_path(QueuePair& qp, const base::QpAttributes& attributes) {
  auto path = make_path(attributes.address, mtu_bytes(attributes.path_mtu));
  if (!path.ok()) return path.error();
  if (path->destination.is_multicast()) {
    return Error{EINVAL, "a connection leads to one peer, not to a group"};
  }
  forget_path(qp);
  qp.path = *path;
  qp.path.source_port = flow_port(qp.transport->config().qpn, attributes.destination_qpn);
  qp.peer = peers_.acquire(path->destination,
                           path->is_local ? kLocalWindowBytes : config_.peer_window_bytes);
  qp.transport->set_path(&qp.path, &qp.peer->window);
  return {};
}

void EngineImpl::forget_path(QueuePair& qp) {
  if (qp.peer == nullptr) return;
  withdraw_train(qp);
  qp.peer->waiting.remove(&qp);
  qp.transport->set_path(nullptr, nullptr);
  // Others may wait for bytes that only this QP had in flight.
  wake_peer_waiters(*qp.peer);
  peers_.release(qp.path.destination);
  qp.peer = nullptr;
}

Result<ModifiedQp> EngineImpl::modify_qp(base::ContextId id, base::Qpn qpn,
                                         const base::QpAttributes& attributes, uint32_t mask,
                                         base::TimeNs now) {
  auto found = find_qp(id, qpn);
  if (!found.ok()) return found.error();
  QueuePair& qp = **found;
  if (qp.spread != nullptr) return Error{EINVAL, "a queue pair without queues has no states"};
  last_step_ = std::max(last_step_, now);  // what is flushed here completes now
  const base::QpState before = qp.transport->state();
  const bool resets = (mask & base::kQpState) != 0 && attributes.state == base::QpState::kReset;
  const bool connects = (mask & base::kQpAddressVector) != 0 && before == base::QpState::kInit &&
                        (mask & base::kQpPathMtu) != 0;
  // Packets under way name memory of the QP's send queue.
  if (resets) withdraw_train(qp);
  if (connects) {
    if (auto connected = connect_path(qp, attributes); !connected.ok()) return connected.error();
  }
  if (auto modified = qp.transport->modify(attributes, mask, now); !modified.ok()) {
    if (connects) forget_path(qp);
    return modified.error();
  }
  if (resets) {
    forget_path(qp);
    qp.context->ready.remove(&qp);
    qp.pacer.set(0, 0, now);
    pacing_timers_.cancel(qp.pacing_timer);
    ++qp.generation;
    if (qp.has_receive_ring()) {
      qp.receives.ring().reset();
      qp.receives.ring().set_need_kick(false);
    }
    qp.wants_kick = false;
  }
  after_activity(qp);
  return ModifiedQp{qp.transport->state(), qp.generation};
}

Result<void> EngineImpl::set_qp_rate(base::ContextId id, base::Qpn qpn, uint64_t bytes_per_second,
                                     uint64_t burst_bytes, base::TimeNs now) {
  auto found = find_qp(id, qpn);
  if (!found.ok()) return found.error();
  QueuePair& qp = **found;
  if (qp.transport->state() != base::QpState::kReadyToSend) {
    return Error{EINVAL, "only a queue pair in RTS has a rate"};
  }
  // One full GSO train: less would make every packet a system call.
  constexpr uint64_t kUsualBurstBytes = 64 * 1024;
  qp.pacer.set(bytes_per_second, burst_bytes == 0 ? kUsualBurstBytes : burst_bytes, now);
  pacing_timers_.cancel(qp.pacing_timer);
  after_activity(qp);
  return {};
}

Result<base::QpAttributes> EngineImpl::query_qp(base::ContextId id, base::Qpn qpn) {
  auto found = find_qp(id, qpn);
  if (!found.ok()) return found.error();
  return (*found)->transport->query();
}

void EngineImpl::remove_qp(Context& context, base::Qpn qpn) {
  const auto it = context.qps.find(qpn.value);
  QueuePair& qp = *it->second;
  if (qp.peer != nullptr && !qp.path.is_local) {
    if (const auto rest = qp.transport->tombstone()) departed_.add(qpn, *rest, last_step_);
  }
  withdraw_train(qp);
  forget_path(qp);
  if (qp.is_raw()) stop_raw(qp);
  while (multicast_.has(&qp)) leave_group(multicast_.any_of(&qp), qp);
  context.ready.remove(&qp);
  timers_.cancel(qp.timer);
  pacing_timers_.cancel(qp.pacing_timer);
  if (qp.domain == nullptr) {
    --context.pds[qp.transport->config().pd.value];
    --qp.send_completions.cq()->users;
    --qp.receive_completions.cq()->users;
  }
  if (qp.shared != nullptr) --qp.shared->users;
  if (qp.spread != nullptr) --qp.spread->table->users;
  qps_.erase(qpn.value);
  context.qps.erase(it);
}

Result<EventsRead> EngineImpl::destroy_qp(base::ContextId id, base::Qpn qpn) {
  auto found = find_qp(id, qpn);
  if (!found.ok()) return found.error();
  QueuePair& qp = **found;
  if (qp.domain != nullptr) {
    return Error{EINVAL, "an XRC target is closed by each that has opened it"};
  }
  if (multicast_.has(&qp)) return Error{EBUSY, "the queue pair is in a multicast group"};
  if (qp.table_entries > 0) return Error{EBUSY, "the work queue is in a table"};
  const uint32_t read = qp.events.settle(*qp.context->events, qp.cookie);
  remove_qp(*qp.context, qpn);
  return EventsRead{0, read};
}

}  // namespace flexins::engine
