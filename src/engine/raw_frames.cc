#include <array>
#include <cerrno>

#include "base/fault_guard.h"
#include "engine/engine_impl.h"
#include "wire/frame_key.h"

/// Raw packet QPs: Ethernet frames, and the rules that say whose they are.

namespace flexins::engine {

using base::Error;
using base::Result;

/// One more raw packet QP: the first has the port listen.
Result<void> EngineImpl::start_raw() {
  if (config_.raw == nullptr) return Error{EPERM, "this engine may not send raw frames"};
  if (raw_qps_ == 0) {
    if (auto started = config_.raw->listen(); !started.ok()) return started;
  }
  ++raw_qps_;
  return {};
}

void EngineImpl::stop_raw(QueuePair& qp) {
  flows_.remove_all(&qp);
  if (--raw_qps_ == 0) config_.raw->stop_listening();
}

Result<base::FlowId> EngineImpl::create_flow(base::ContextId id, base::Qpn qpn,
                                             const base::FlowRule& rule,
                                             base::CountersId counters) {
  auto found = find_qp(id, qpn);
  if (!found.ok()) return found.error();
  if (!(*found)->is_raw()) return Error{EINVAL, "only raw packet queue pairs have flows"};
  if (flows_.size() >= FlowTable::kMax) return Error{ENOMEM, "too many flows"};
  FlowTarget target{*found, nullptr};
  if (counters.value != 0) {
    auto wanted = find_counters(id, counters);
    if (!wanted.ok()) return wanted.error();
    target.counters = *wanted;
  }
  const base::FlowId flow{++last_id_};
  flows_.add(flow.value, rule, target);
  return flow;
}

Result<void> EngineImpl::destroy_flow(base::ContextId id, base::Qpn qpn, base::FlowId flow) {
  auto found = find_qp(id, qpn);
  if (!found.ok()) return found.error();
  if (!flows_.remove(flow.value, *found)) return Error{ENOENT, "no such flow of this queue pair"};
  return {};
}

Result<FlowCounters*> EngineImpl::find_counters(base::ContextId id, base::CountersId counters) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto it = context->flow_counters.find(counters.value);
  if (it == context->flow_counters.end()) return Error{ENOENT, "no such counters"};
  return it->second.get();
}

Result<base::CountersId> EngineImpl::create_counters(base::ContextId id) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  if (context->flow_counters.size() >= base::Limits::kMaxCounters) {
    return Error{ENOMEM, "too many counters"};
  }
  const base::CountersId counters{++last_id_};
  context->flow_counters.emplace(counters.value, std::make_unique<FlowCounters>());
  return counters;
}

Result<base::FlowCounts> EngineImpl::read_counters(base::ContextId id, base::CountersId counters) {
  auto found = find_counters(id, counters);
  if (!found.ok()) return found.error();
  return (*found)->counts;
}

Result<void> EngineImpl::destroy_counters(base::ContextId id, base::CountersId counters) {
  auto found = find_counters(id, counters);
  if (!found.ok()) return found.error();
  if ((*found)->flows > 0) return Error{EBUSY, "flows are still counted there"};
  find_context(id)->flow_counters.erase(counters.value);
  return {};
}

bool EngineImpl::receive_raw(base::TimeNs now) {
  const size_t count = config_.raw->receive(received_, now);
  for (size_t i = 0; i < count; ++i) deliver_raw(received_[i], nullptr, now);
  return count > 0;
}

void EngineImpl::deliver_raw(const wire::RxPacket& frame, const QueuePair* sender,
                             base::TimeNs now) {
  base::FlowKey key;
  if (!wire::parse_frame_key({frame.bytes, frame.length}, key)) {
    ++counters_.drop_bad_frame;
    return;
  }
  const FlowTarget target = flows_.find(key, sender);
  QueuePair* qp = target.qp;
  if (qp == nullptr) {
    if (sender == nullptr) ++counters_.drop_no_flow;
    return;
  }
  if (target.counters != nullptr) {
    ++target.counters->counts.packets;
    target.counters->counts.bytes += frame.length;
  }
  if (qp->spread != nullptr) qp = &qp->spread->queue_for(key);
  const iovec whole{const_cast<std::byte*>(frame.bytes), frame.length};
  qp->transport->on_packet({}, {&whole, 1}, frame.length, {}, false, now);
  after_activity(*qp);
}

/// A network does not hand back what one sends, and neighbours on one engine are to hear each
/// other.
void EngineImpl::loop_raw(std::span<wire::TxPacket> sent, base::TimeNs now) {
  if (config_.raw_loops_back) return;
  std::array<std::byte, kRawFrameBytes> frame;
  for (const wire::TxPacket& packet : sent) {
    if (packet.payload_length > frame.size()) continue;
    const bool readable =
        base::guarded([&]() noexcept { wire::copy_pieces(wire::pieces_of(packet), frame.data()); });
    if (!readable) continue;
    wire::RxPacket received;
    received.bytes = frame.data();
    received.length = packet.payload_length;
    deliver_raw(received, train_qp_, now);
  }
}

}  // namespace flexins::engine
