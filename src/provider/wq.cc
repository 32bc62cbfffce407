#include "provider/wq.h"

#include <errno.h>

#include <algorithm>
#include <memory>

#include "provider/events.h"
#include "provider/guard.h"

namespace flexins::provider {
namespace {

using base::Limits;

int post_wq_receive(ibv_wq* face, ibv_recv_wr* first, ibv_recv_wr** bad) {
  return post_receives(Wq::of(face).half, first, bad);
}

int check_request(const ibv_wq_init_attr& wanted) {
  if (wanted.pd == nullptr || wanted.cq == nullptr) return EINVAL;
  if (wanted.wq_type != IBV_WQT_RQ) return EOPNOTSUPP;
  if ((wanted.comp_mask & ~uint32_t{IBV_WQ_INIT_ATTR_FLAGS}) != 0) return EOPNOTSUPP;
  // VLAN stripping, the frame check sequence and the like: see raw_packet_caps, which are none.
  const bool has_flags = (wanted.comp_mask & IBV_WQ_INIT_ATTR_FLAGS) != 0;
  if (has_flags && wanted.create_flags != 0) return EOPNOTSUPP;
  const bool fits = wanted.max_wr <= Limits::kMaxReceiveWr && wanted.max_sge <= Limits::kMaxSge;
  return fits ? 0 : EINVAL;
}

void fill_half(Wq& wq, const ibv_wq_init_attr& wanted) {
  Qp& half = wq.half;
  half.cookie = reinterpret_cast<uint64_t>(&wq.face);
  half.context = &Context::of(wanted.pd->context);
  half.send_cq = half.receive_cq = &Cq::of(wanted.cq);
  half.ring = &Pd::of(wanted.pd).ring();
  half.cap.max_recv_wr = std::max(wanted.max_wr, 1u);
  half.cap.max_recv_sge = std::max(wanted.max_sge, 1u);
  half.type = base::QpType::kReceiveQueue;
}

void fill_face(Wq& wq, const ibv_wq_init_attr& wanted) {
  wq.face.context = wanted.pd->context;
  wq.face.pd = wanted.pd;
  wq.face.cq = wanted.cq;
  wq.face.wq_num = wq.face.handle = wq.half.qpn;
  wq.face.state = IBV_WQS_RESET;
  wq.face.wq_type = wanted.wq_type;
  wq.face.post_recv = post_wq_receive;
}

/// The state as the engine calls it. False: there is no such state to go to.
bool to_engine(ibv_wq_state state, base::QpState& out) {
  switch (state) {
    case IBV_WQS_RESET: out = base::QpState::kReset; return true;
    case IBV_WQS_RDY: out = base::QpState::kReadyToReceive; return true;
    case IBV_WQS_ERR: out = base::QpState::kError; return true;
    case IBV_WQS_UNKNOWN: break;
  }
  return false;
}

}  // namespace

ibv_wq* create_wq(ibv_context*, ibv_wq_init_attr* attributes) {
  return null_on_error([&]() -> base::Result<ibv_wq*> {
    if (const int error = check_request(*attributes); error != 0) return base::Error{error, ""};
    auto wq = std::make_unique<Wq>();
    fill_half(*wq, *attributes);
    if (const int error = create_in_engine(wq->half, attributes->pd); error != 0) {
      return base::Error{error, ""};
    }
    fill_face(*wq, *attributes);
    enlist(wq->half);
    attributes->max_wr = wq->half.cap.max_recv_wr;
    attributes->max_sge = wq->half.cap.max_recv_sge;
    if (Pd& domain = Pd::of(attributes->pd); domain.is_parent_domain()) {
      wq->half.domain = &domain;
      ++domain.users;
    }
    return &wq.release()->face;
  });
}

int modify_wq(ibv_wq* face, ibv_wq_attr* attributes) {
  return errno_on_error([&] {
    Qp& half = Wq::of(face).half;
    const uint32_t mask = attributes->attr_mask;
    constexpr uint32_t kStates = IBV_WQ_ATTR_STATE | IBV_WQ_ATTR_CURR_STATE;
    if ((mask & ~kStates) != 0) return EOPNOTSUPP;
    if ((mask & IBV_WQ_ATTR_CURR_STATE) != 0 && attributes->curr_wq_state != face->state) {
      return EINVAL;
    }
    if ((mask & IBV_WQ_ATTR_STATE) == 0) return 0;
    protocol::ModifyQpRequest request{};
    request.qpn = half.qpn;
    request.mask = base::kQpState;
    if (!to_engine(attributes->wq_state, request.attributes.state)) return EINVAL;
    protocol::ModifyQpReply reply{};
    if (const int error = half.context->call(request, reply); error != 0) return error;
    if (attributes->wq_state == IBV_WQS_RESET) restart(half, reply.generation);
    half.state.store(static_cast<base::QpState>(reply.state), std::memory_order_release);
    face->state = attributes->wq_state;
    return 0;
  });
}

int destroy_wq(ibv_wq* face) {
  return errno_on_error([&] {
    Qp& half = Wq::of(face).half;
    protocol::DestroyQpRequest request{};
    request.qpn = half.qpn;
    std::optional<protocol::DestroyReply> events;
    if (const int error = half.context->call_to_destroy(request, events); error != 0) return error;
    delist(half);
    if (half.context->state() != ContextState::kForeign) {
      settle_events({face->mutex, face->cond, face->events_completed, half.async_events_reported,
                     half.context->async_fd(), kAsyncRecordBytes, half.cookie},
                    async_events(events));
    }
    Pd* const domain = half.domain;
    delete &Wq::of(face);
    if (domain != nullptr) --domain->users;
    return 0;
  });
}

}  // namespace flexins::provider
