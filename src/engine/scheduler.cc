#include <cstring>

#include "base/fault_guard.h"
#include "engine/engine_impl.h"

namespace flexins::engine {

namespace {

/// Takes the payload into the packet's own memory. False when it cannot be read any more.
bool stage_payload(wire::TxPacket& packet) {
  // By way of another place: some of it may lie in the packet's own memory already.
  std::array<std::byte, wire::kMaxMtuBytes> copy;
  const bool readable =
      base::guarded([&]() noexcept { wire::copy_pieces(wire::pieces_of(packet), copy.data()); });
  if (!readable || packet.payload_length == 0) return readable;
  std::memcpy(packet.staging, copy.data(), packet.payload_length);
  packet.pieces[0] = {packet.staging, packet.payload_length};
  packet.piece_count = 1;
  return true;
}

}  // namespace

void EngineImpl::make_ready(QueuePair& qp) {
  qp.context->ready.push(&qp);
  ready_contexts_.push(qp.context);
}

void EngineImpl::wake_peer_waiters(Peer& peer) {
  // A few at a time: each that is served wakes the next while there is room.
  constexpr int kWokenAtOnce = 4;
  for (int i = 0; i < kWokenAtOnce && !peer.waiting.empty() &&
                  peer.window.in_flight_bytes < peer.window.limit_bytes;
       ++i) {
    make_ready(*peer.waiting.pop());
  }
}

bool EngineImpl::transmit(base::TimeNs now) {
  if (train_qp_ != nullptr && !flush_train(now)) return false;
  bool worked = false;
  // Contexts take turns, and within a context its QPs: fair between applications first.
  for (size_t trains = 0; trains < kTrainsPerStep && !ready_contexts_.empty(); ++trains) {
    Context& context = *ready_contexts_.pop();
    if (context.ready.empty()) continue;
    QueuePair& qp = *context.ready.pop();
    if (!context.ready.empty()) ready_contexts_.push(&context);
    if (fill_train(qp, now) == 0) continue;
    worked = true;
    if (!flush_train(now)) break;
  }
  return worked;
}

bool EngineImpl::held_to_its_rate(QueuePair& qp, base::TimeNs now) {
  if (!qp.pacer.limits()) return false;
  qp.pacer.refill(now);
  if (qp.pacer.may_send()) return false;
  pacing_timers_.schedule(qp.pacing_timer, qp.pacer.ready_at());
  return true;
}

size_t EngineImpl::fill_train(QueuePair& qp, base::TimeNs now) {
  const bool has_way = qp.peer != nullptr || qp.is_datagram() || qp.is_raw();
  if (!has_way || held_to_its_rate(qp, now)) return 0;
  size_t count = 0;
  transport::TxStatus status = transport::TxStatus::kPacket;
  while (count < kTrainPackets) {
    status = qp.transport->next_packet(train_[count], now);
    if (status != transport::TxStatus::kPacket) break;
    const wire::TxPacket& packet = train_[count++];
    if (!qp.pacer.limits()) continue;
    qp.pacer.charge(packet.header_length + packet.payload_length + packet.pad_count);
    if (!qp.pacer.may_send()) break;
  }
  timers_.schedule(qp.timer, qp.transport->deadline());
  if (qp.transport->state() == base::QpState::kError) after_activity(qp);
  if (status == transport::TxStatus::kPacket) {
    make_ready(qp);
  } else if (status == transport::TxStatus::kBlockedOnPeer) {
    qp.peer->waiting.push(&qp);
  } else if (qp.peer != nullptr) {
    wake_peer_waiters(*qp.peer);
  }
  train_qp_ = count > 0 ? &qp : nullptr;
  train_begin_ = 0;
  train_end_ = count;
  counters_.packets_sent += count;
  counters_.trains_sent += count > 0 ? 1 : 0;
  return count;
}

bool EngineImpl::flush_train(base::TimeNs now) {
  // The packets of a datagram QP go different ways: each run of one way is handed over at once.
  while (train_begin_ < train_end_) {
    const wire::Path& way = *train_[train_begin_].path;
    const bool is_local = way.is_local;
    size_t end = train_begin_ + 1;
    while (end < train_end_ && train_[end].path->is_local == is_local) ++end;
    const std::span<wire::TxPacket> run{train_.data() + train_begin_, end - train_begin_};
    port::Port& port = way.is_raw ? *config_.raw : is_local ? *config_.local : *config_.network;
    const size_t taken = port.transmit(run, now);
    train_begin_ += taken;
    if (way.is_raw) {
      loop_raw(run.first(taken), now);
    } else if (!is_local && multicast_.size() > 0) {
      loop_multicast(run.first(taken), now);
    }
    // A local port only remembers the packets: they are delivered before the next train overwrites
    // them, and before a control call may take their memory away.
    if (is_local) {
      while (receive(*config_.local, now)) {
      }
    }
    if (train_begin_ < end) return false;
  }
  end_train();
  return true;
}

void EngineImpl::withdraw_train(const QueuePair& qp) {
  if (train_qp_ != &qp) return;
  counters_.drop_withdrawn += train_end_ - train_begin_;
  end_train();
}

void EngineImpl::detach_train() {
  if (train_qp_ == nullptr) return;
  for (size_t i = train_begin_; i < train_end_; ++i) {
    if (!stage_payload(train_[i])) return withdraw_train(*train_qp_);
  }
}

void EngineImpl::end_train() {
  QueuePair& qp = *train_qp_;
  train_qp_ = nullptr;
  qp.transport->on_transmitted();
  // What completed now may have held back what comes next.
  if (!base::is_reliable(qp.transport->config().type)) after_activity(qp);
}

}  // namespace flexins::engine
