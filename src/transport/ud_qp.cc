#include "transport/ud_qp.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>

#include "transport/state_machine.h"

/// What both halves of a datagram QP share: creation, ibv_modify_qp and ibv_query_qp, errors.

namespace flexins::transport {

using base::QpState;
using base::WcStatus;

namespace {

base::Error invalid(const char* why) { return {EINVAL, why}; }

}  // namespace

bool UdQp::allocate() {
  const uint32_t slots = std::bit_ceil(std::max(core_.config.max_send_wr, 1u));
  mask_ = slots - 1;
  destinations_.reset(new (std::nothrow) Destination[slots]);
  return destinations_ != nullptr && queue_.allocate(core_.config);
}

base::Result<void> UdQp::modify(const base::QpAttributes& attributes, uint32_t mask, base::TimeNs) {
  const QpState from = core_.state;
  if ((mask & base::kQpCurrentState) != 0 && attributes.current_state != from) {
    return invalid("cur_qp_state is not the state of the queue pair");
  }
  if (auto checked = check_values(attributes, mask); !checked) return checked;
  const QpState to = (mask & base::kQpState) != 0 ? attributes.state : from;
  if (!transition_allowed(core_.config.type, from, to, mask)) {
    return invalid("this transition does not exist or its attribute mask is wrong");
  }
  if (from == QpState::kSendQueueDrained && draining_ && to != QpState::kError &&
      to != QpState::kReset) {
    return invalid("the send queue is still draining");
  }
  merge_attributes(attributes, mask, core_.attributes);
  if (to == QpState::kReset) {
    queue_.clear();
    cursor_ = queue_.head();
    sends_retired_ = receives_retired_ = 0;
    core_.attributes = {};
    core_.memory_deadline = base::kNever;
    holds_receive_ = draining_ = drain_notify_ = false;
  } else if (to == QpState::kError) {
    enter_error();
  } else if (from == QpState::kReadyToReceive && to == QpState::kReadyToSend) {
    next_psn_ = base::Psn(core_.attributes.sq_psn);
  } else if (from == QpState::kReadyToSend && to == QpState::kSendQueueDrained) {
    draining_ = true;
    drain_notify_ = (mask & base::kQpEnableSqdNotify) != 0;
  }
  core_.state = to;
  settle_drain();
  return {};
}

base::QpAttributes UdQp::query() const {
  base::QpAttributes attributes = core_.attributes;
  attributes.state = attributes.current_state = core_.state;
  attributes.sq_draining = draining_ ? 1 : 0;
  return attributes;
}

void UdQp::settle_drain() noexcept {
  if (!draining_ || cursor_ != queue_.head()) return;
  draining_ = false;
  if (drain_notify_ && core_.state == QpState::kSendQueueDrained) {
    core_.raise(base::AsyncEvent::kSqDrained);
  }
}

/// The request at the head could not be sent: those behind it are flushed, receives stay.
void UdQp::fail_sends(WcStatus status) noexcept {
  core_.state = QpState::kSendQueueError;
  draining_ = false;
  complete_head(status);
  while (!queue_.empty()) complete_head(WcStatus::kWrFlush);
  cursor_ = queue_.head();
}

void UdQp::enter_error() noexcept {
  if (core_.state == QpState::kError) return;
  core_.state = QpState::kError;
  core_.memory_deadline = base::kNever;
  draining_ = false;
  while (!queue_.empty()) complete_head(WcStatus::kWrFlush);
  cursor_ = queue_.head();
  flush_receives();
  if (core_.config.shared_receives) core_.raise(base::AsyncEvent::kLastWqeReached);
}

}  // namespace flexins::transport
