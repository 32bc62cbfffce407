#include <algorithm>

#include "engine/engine_impl.h"

namespace flexins::engine {

bool EngineImpl::step(base::TimeNs now) {
  ++counters_.steps;
  last_step_ = now;
  bool worked = poll_submissions(now);
  worked |= receive(*config_.local, now);
  if (config_.network != nullptr) worked |= receive(*config_.network, now);
  if (raw_qps_ > 0) worked |= receive_raw(now);
  worked |= run_timers(now);
  worked |= transmit(now);
  if (counters_.cq_overruns != overruns_handled_) fail_overrun_cqs(now);
  return worked;
}

base::TimeNs EngineImpl::next_event() const {
  base::TimeNs next = std::min(
      {timers_.next(), pacing_timers_.next(), cq_timers_.next(), config_.local->next_event()});
  if (config_.network != nullptr) next = std::min(next, config_.network->next_event());
  // A port that took nothing says by no descriptor when it will.
  if (train_qp_ != nullptr) next = 0;
  return next;
}

bool EngineImpl::run_timers(base::TimeNs now) {
  bool worked = false;
  timers_.expire(now, [&](transport::TimerNode& node) {
    QueuePair& qp = *static_cast<QueuePair*>(node.owner);
    qp.transport->on_deadline(now);
    after_activity(qp);
    worked = true;
  });
  pacing_timers_.expire(now, [&](transport::TimerNode& node) {
    QueuePair& qp = *static_cast<QueuePair*>(node.owner);
    if (qp.peer != nullptr || qp.is_datagram() || qp.is_raw()) make_ready(qp);
    worked = true;
  });
  cq_timers_.expire(now, [&](transport::TimerNode& node) {
    static_cast<CompletionQueue*>(node.owner)->on_deadline();
    worked = true;
  });
  return worked;
}

void EngineImpl::after_activity(QueuePair& qp) {
  timers_.schedule(qp.timer, qp.transport->deadline());
  if (qp.peer != nullptr) {
    make_ready(qp);
    if (!qp.peer->waiting.empty()) wake_peer_waiters(*qp.peer);
  } else if (qp.transport->outstanding_sends() > 0) {
    make_ready(qp);
  }
  if (qp.transport->state() == base::QpState::kError && qp.has_receive_ring()) {
    if (!qp.wants_kick) {
      qp.wants_kick = true;
      qp.receives.ring().set_need_kick(true);
    }
    qp.transport->flush_receives();
  }
}

void EngineImpl::fail_overrun_cqs(base::TimeNs now) {
  overruns_handled_ = counters_.cq_overruns;
  base::QpAttributes error;
  error.state = base::QpState::kError;
  for (auto& [id, context] : contexts_) {
    for (auto& [qpn, qp] : context->qps) {
      if (!qp->send_completions.overrun() && !qp->receive_completions.overrun()) continue;
      if (qp->transport->state() == base::QpState::kError) continue;
      // A QP in kReset has nothing outstanding and may refuse the move.
      if (!qp->transport->modify(error, base::kQpState, now).ok()) continue;
      // Nothing of what it flushes can tell the program of its end.
      qp->on_async_event(base::Qpn{qpn},
                         qp->is_queue() ? base::AsyncEvent::kWqFatal : base::AsyncEvent::kQpFatal);
      after_activity(*qp);
    }
  }
}

}  // namespace flexins::engine
