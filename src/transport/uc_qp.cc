#include "transport/uc_qp.h"

#include <cerrno>

#include "transport/state_machine.h"

/// What both halves of an unreliable connection share: ibv_modify_qp and ibv_query_qp, errors.

namespace flexins::transport {

using base::QpState;
using base::WcStatus;

namespace {

constexpr uint32_t kSmallestMtuBytes = 128;  // shifted by the path_mtu code, which begins at 1

base::Error invalid(const char* why) { return {EINVAL, why}; }

}  // namespace

base::Result<void> UcQp::modify(const base::QpAttributes& attributes, uint32_t mask, base::TimeNs) {
  const QpState from = core_.state;
  if ((mask & base::kQpCurrentState) != 0 && attributes.current_state != from) {
    return invalid("cur_qp_state is not the state of the queue pair");
  }
  if (auto checked = check_values(attributes, mask); !checked) return checked;
  const QpState to = (mask & base::kQpState) != 0 ? attributes.state : from;
  if (!transition_allowed(base::QpType::kUnreliable, from, to, mask)) {
    return invalid("this transition does not exist or its attribute mask is wrong");
  }
  if (draining_ && to != QpState::kError && to != QpState::kReset) {
    return invalid("the send queue is still draining");
  }
  if (from == QpState::kInit && to == QpState::kReadyToReceive && core_.path == nullptr) {
    return invalid("the queue pair has no path to its peer");
  }
  merge_attributes(attributes, mask, core_.attributes);
  apply(to, mask);
  settle_drain();
  return {};
}

void UcQp::apply(QpState to, uint32_t mask) noexcept {
  const QpState from = core_.state;
  if (to == QpState::kError) return enter_error();
  if (to == QpState::kReset) {
    queue_.clear();
    cursor_ = queue_.head();
    packets_sent_ = 0;
    sends_retired_ = receives_retired_ = 0;
    message_ = Message::kNone;
    core_.attributes = {};
    core_.memory_deadline = base::kNever;
    established_ = holds_receive_ = draining_ = drain_notify_ = false;
  } else if (from == QpState::kInit && to == QpState::kReadyToReceive) {
    core_.mtu_bytes = kSmallestMtuBytes << core_.attributes.path_mtu;
    expected_ = base::Psn(core_.attributes.rq_psn);
  } else if (from == QpState::kReadyToReceive && to == QpState::kReadyToSend) {
    next_psn_ = base::Psn(core_.attributes.sq_psn);
  } else if (from == QpState::kReadyToSend && to == QpState::kSendQueueDrained) {
    draining_ = true;
    drain_notify_ = (mask & base::kQpEnableSqdNotify) != 0;
  }
  core_.state = to;
}

base::QpAttributes UcQp::query() const {
  base::QpAttributes attributes = core_.attributes;
  attributes.state = attributes.current_state = core_.state;
  attributes.sq_draining = draining_ ? 1 : 0;
  return attributes;
}

void UcQp::settle_drain() noexcept {
  if (!draining_ || cursor_ != queue_.head() || packets_sent_ > 0) return;
  draining_ = false;
  if (drain_notify_ && core_.state == QpState::kSendQueueDrained) {
    core_.raise(base::AsyncEvent::kSqDrained);
  }
}

void UcQp::enter_error() noexcept {
  if (core_.state == QpState::kError) return;
  core_.state = QpState::kError;
  core_.memory_deadline = base::kNever;
  draining_ = false;
  message_ = Message::kNone;
  flush_sends();
  if (holds_receive_) complete_receive(WcStatus::kWrFlush, nullptr);
  if (core_.config.shared_receives) {
    core_.raise(base::AsyncEvent::kLastWqeReached);
  } else {
    flush_receives();
  }
}

}  // namespace flexins::transport
