#include <cerrno>

#include "transport/rc_qp.h"
#include "transport/state_machine.h"

/// ibv_modify_qp and ibv_query_qp of a reliable connection.

namespace flexins::transport {

using base::QpState;

namespace {

constexpr uint32_t kSmallestMtuBytes = 128;  // shifted by the path_mtu code, which begins at 1

base::Error invalid(const char* why) { return {EINVAL, why}; }

}  // namespace

base::Result<void> RcQp::modify(const base::QpAttributes& attributes, uint32_t mask, base::TimeNs) {
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
  if (from == QpState::kInit && to == QpState::kReadyToReceive && core_.path == nullptr) {
    return invalid("the queue pair has no path to its peer");
  }
  base::QpAttributes before = core_.attributes;
  merge_attributes(attributes, mask, core_.attributes);
  if (to == QpState::kSendQueueDrained && from != to) {
    drain_notify_ = (mask & base::kQpEnableSqdNotify) != 0;
  }
  auto moved = move_to(to);
  if (!moved) core_.attributes = before;
  return moved;
}

base::Result<void> RcQp::move_to(QpState to) {
  const QpState from = core_.state;
  if (to == QpState::kReset) {
    requester_.reset();
    responder_.reset();
    core_.attributes = {};
    established_ = draining_ = drain_notify_ = false;
  } else if (to == QpState::kError) {
    responder_.silence();
    enter_error();
  } else if (from == QpState::kInit && to == QpState::kReadyToReceive) {
    core_.mtu_bytes = kSmallestMtuBytes << core_.attributes.path_mtu;
    if (!responder_.start()) return base::Error{ENOMEM, "no memory for RDMA READ resources"};
  } else if (from == QpState::kReadyToReceive && to == QpState::kReadyToSend) {
    requester_.start();
  } else if (from == QpState::kReadyToSend && to == QpState::kSendQueueDrained) {
    draining_ = true;
  }
  core_.state = to;
  if (from == QpState::kSendQueueDrained) requester_.reload_retries();
  settle();
  return {};
}

base::QpAttributes RcQp::query() const {
  base::QpAttributes attributes = core_.attributes;
  attributes.state = attributes.current_state = core_.state;
  attributes.sq_draining = draining_ ? 1 : 0;
  return attributes;
}

}  // namespace flexins::transport
