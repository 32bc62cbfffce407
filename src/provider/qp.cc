#include "provider/qp.h"

#include <errno.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "protocol/messages_xrc.h"
#include "provider/events.h"
#include "provider/extended_qp.h"
#include "provider/guard.h"
#include "provider/memory.h"
#include "provider/qp_attributes.h"
#include "provider/qp_extras.h"
#include "provider/srq.h"
#include "provider/stage.h"
#include "provider/wq.h"
#include "provider/xrc.h"

namespace flexins::provider {

Qp::Qp() = default;
Qp::~Qp() = default;

namespace {

using base::Limits;

/// Calls `body` with the CQs of `qp` locked, as many as it has.
template <typename Body>
void with_cqs_locked(Qp& qp, Body&& body) {
  Cq* first = std::min(qp.send_cq, qp.receive_cq);
  Cq* second = std::max(qp.send_cq, qp.receive_cq);
  if (second == nullptr) return body();
  const std::lock_guard lock(second->lock);
  if (first == nullptr || first == second) return body();
  const std::lock_guard lock_first(first->lock);
  body();
}

int check_request(const ibv_pd* pd, const ibv_qp_init_attr& wanted) {
  const ibv_qp_cap& cap = wanted.cap;
  const bool initiates = wanted.qp_type == IBV_QPT_XRC_SEND;
  if (pd == nullptr || wanted.send_cq == nullptr) return EINVAL;
  if (wanted.recv_cq == nullptr && !initiates) return EINVAL;
  const bool known = wanted.qp_type == IBV_QPT_RC || wanted.qp_type == IBV_QPT_UC ||
                     wanted.qp_type == IBV_QPT_UD || wanted.qp_type == IBV_QPT_RAW_PACKET;
  if (!known && !initiates) return EOPNOTSUPP;
  const bool fits = cap.max_send_wr <= Limits::kMaxSendWr &&
                    cap.max_recv_wr <= Limits::kMaxReceiveWr &&
                    cap.max_send_sge <= Limits::kMaxSge && cap.max_recv_sge <= Limits::kMaxSge &&
                    cap.max_inline_data <= Limits::kMaxInlineBytes;
  return fits ? 0 : EINVAL;
}

/// What the program gets: never less than it asked for, and nothing of size 0 that the rings need.
ibv_qp_cap granted(ibv_qp_cap cap, bool has_receive_ring) {
  cap.max_send_wr = std::max(cap.max_send_wr, kLeastSendWr);
  cap.max_recv_wr = has_receive_ring ? std::max(cap.max_recv_wr, 1u) : 0;
  cap.max_send_sge = std::max(cap.max_send_sge, 1u);
  cap.max_recv_sge = has_receive_ring ? std::max(cap.max_recv_sge, 1u) : 0;
  return cap;
}

protocol::CreateQpRequest request_for(const Qp& qp, const ibv_pd* pd) {
  protocol::CreateQpRequest request{};
  request.cookie = qp.cookie;
  request.pd = pd->handle;
  request.send_cq = qp.send_cq->id;
  request.receive_cq = qp.receive_cq != nullptr ? qp.receive_cq->id : 0;
  request.submission_ring = qp.ring->id;
  request.max_send_wr = qp.cap.max_send_wr;
  request.max_receive_wr = qp.cap.max_recv_wr;
  request.max_send_sge = qp.cap.max_send_sge;
  request.max_receive_sge = qp.cap.max_recv_sge;
  request.max_inline_bytes = qp.cap.max_inline_data;
  request.type = static_cast<uint8_t>(qp.type);
  request.signal_all = qp.signal_all ? 1 : 0;
  request.srq = qp.srq != nullptr ? qp.srq->number : 0;
  return request;
}

/// The fields that libibverbs and programs read.
void fill_face(Qp& qp, ibv_pd* pd, const ibv_qp_init_attr& wanted) {
  ibv_qp& face = qp.face.qp;
  face.context = qp.context->face();
  face.qp_context = wanted.qp_context;
  face.pd = pd;
  face.send_cq = wanted.send_cq;
  face.recv_cq = wanted.recv_cq;
  face.srq = wanted.srq;
  face.handle = qp.qpn;
  face.qp_num = qp.qpn;
  face.state = IBV_QPS_RESET;
  face.qp_type = wanted.qp_type;
  ::pthread_mutex_init(&face.mutex, nullptr);
  ::pthread_cond_init(&face.cond, nullptr);
}

base::Result<ibv_qp*> create(ibv_pd* pd, ibv_qp_init_attr& wanted, uint64_t send_ops,
                             bool extended) {
  if (const int error = check_request(pd, wanted); error != 0) return base::Error{error, ""};
  auto qp = std::make_unique<Qp>();
  qp->cookie = reinterpret_cast<uint64_t>(&qp->face.qp);
  qp->context = &Context::of(pd->context);
  qp->send_cq = &Cq::of(wanted.send_cq);
  qp->type = static_cast<base::QpType>(wanted.qp_type);
  const bool is_xrc = base::is_xrc(qp->type);
  qp->receive_cq = is_xrc ? nullptr : &Cq::of(wanted.recv_cq);
  Pd& domain = Pd::of(pd);
  qp->ring = &domain.ring();
  qp->srq = wanted.srq != nullptr && !is_xrc ? &Srq::of(wanted.srq) : nullptr;
  qp->cap = granted(wanted.cap, qp->has_receive_ring());
  qp->signal_all = wanted.sq_sig_all != 0;
  const uint32_t records = pipe::round_up_power_of_two(qp->cap.max_send_wr);
  qp->sends = static_cast<SendRecord*>(
      qp->sends_memory.acquire(domain, records * sizeof(SendRecord), alignof(SendRecord)));
  if (qp->sends == nullptr) return base::Error{ENOMEM, ""};
  std::uninitialized_value_construct_n(qp->sends, records);
  qp->sends_mask = records - 1;
  if (extended && !enable_extended_sends(*qp, send_ops)) return base::Error{EOPNOTSUPP, ""};
  if (const int error = create_in_engine(*qp, pd); error != 0) return base::Error{error, ""};
  fill_face(*qp, pd, wanted);
  enlist(*qp);
  wanted.cap = qp->cap;
  if (domain.is_parent_domain()) {
    qp->domain = &domain;
    ++domain.users;
  }
  return &qp.release()->face.qp;
}

/// What all have that stand for an XRC target, whoever created it. Nothing can be posted to it;
/// what it receives completes into the CQs of SRQs.
std::unique_ptr<Qp> target_of(Context& context) {
  auto qp = std::make_unique<Qp>();
  qp->cookie = reinterpret_cast<uint64_t>(&qp->face.qp);
  qp->context = &context;
  qp->type = base::QpType::kXrcReceive;
  qp->ring = &context.shared_ring();
  return qp;
}

base::Result<ibv_qp*> create_target(Context& context, const ibv_qp_init_attr_ex& wanted) {
  constexpr uint32_t kKnown = IBV_QP_INIT_ATTR_XRCD | IBV_QP_INIT_ATTR_PD;
  if ((wanted.comp_mask & ~kKnown) != 0) return base::Error{EOPNOTSUPP, ""};
  if ((wanted.comp_mask & IBV_QP_INIT_ATTR_XRCD) == 0 || wanted.xrcd == nullptr) {
    return base::Error{EINVAL, ""};
  }
  auto qp = target_of(context);
  protocol::CreateQpRequest request{};
  request.cookie = qp->cookie;
  request.type = static_cast<uint8_t>(qp->type);
  request.xrcd = Xrcd::of(wanted.xrcd).handle;
  protocol::CreateQpReply reply{};
  if (const int error = context.call(request, reply); error != 0) return base::Error{error, ""};
  qp->qpn = reply.qpn;
  qp->generation = reply.generation;
  ibv_qp_init_attr plain{};
  plain.qp_context = wanted.qp_context;
  plain.qp_type = IBV_QPT_XRC_RECV;
  fill_face(*qp, nullptr, plain);
  return &qp.release()->face.qp;
}

base::Result<ibv_qp*> open_target(Context& context, const ibv_qp_open_attr& wanted) {
  constexpr uint32_t kNeeded = IBV_QP_OPEN_ATTR_NUM | IBV_QP_OPEN_ATTR_XRCD | IBV_QP_OPEN_ATTR_TYPE;
  if (wanted.comp_mask >= IBV_QP_OPEN_ATTR_RESERVED) return base::Error{EOPNOTSUPP, ""};
  if ((wanted.comp_mask & kNeeded) != kNeeded || wanted.xrcd == nullptr ||
      wanted.qp_type != IBV_QPT_XRC_RECV) {
    return base::Error{EINVAL, ""};
  }
  auto qp = target_of(context);
  protocol::OpenQpRequest request{};
  request.cookie = qp->cookie;
  request.xrcd = Xrcd::of(wanted.xrcd).handle;
  request.qpn = wanted.qp_num;
  protocol::EmptyReply reply{};
  if (const int error = context.call(request, reply); error != 0) return base::Error{error, ""};
  qp->qpn = wanted.qp_num;
  ibv_qp_init_attr plain{};
  plain.qp_context =
      (wanted.comp_mask & IBV_QP_OPEN_ATTR_CONTEXT) != 0 ? wanted.qp_context : nullptr;
  plain.qp_type = IBV_QPT_XRC_RECV;
  fill_face(*qp, nullptr, plain);
  qp->face.qp.state = IBV_QPS_UNKNOWN;
  return &qp.release()->face.qp;
}

int destroy_in_engine(Qp& qp, std::optional<protocol::DestroyReply>& events) {
  if (qp.type == base::QpType::kXrcReceive) {
    protocol::CloseQpRequest request{};
    request.cookie = qp.cookie;
    request.qpn = qp.qpn;
    return qp.context->call_to_destroy(request, events);
  }
  protocol::DestroyQpRequest request{};
  request.qpn = qp.qpn;
  return qp.context->call_to_destroy(request, events);
}

}  // namespace

int create_in_engine(Qp& qp, const ibv_pd* pd) {
  protocol::CreateQpRequest request = request_for(qp, pd);
  protocol::CreateQpReply reply{};
  protocol::ReceivedFds fds;
  if (const int error = qp.context->call(request, reply, {}, &fds); error != 0) return error;
  qp.qpn = reply.qpn;
  qp.generation = reply.generation;
  if (!qp.has_receive_ring()) return 0;
  const size_t bytes = pipe::receive_ring_bytes(reply.receive_depth, qp.cap.max_recv_sge);
  if (qp.receive_memory.map(fds.take(0), bytes)) {
    qp.receives =
        pipe::ReceiveProducer(qp.receive_memory.base(), reply.receive_depth, qp.cap.max_recv_sge);
    return 0;
  }
  protocol::DestroyQpRequest undo{};
  undo.qpn = reply.qpn;
  qp.context->call_to_free(undo);
  return ENOMEM;
}

void enlist(Qp& qp) {
  with_cqs_locked(qp, [&] {
    if (qp.send_cq != nullptr) qp.send_cq->qps.insert(&qp);
    if (qp.receive_cq != nullptr) qp.receive_cq->qps.insert(&qp);
  });
}

void delist(Qp& qp) {
  with_cqs_locked(qp, [&] {
    if (qp.send_cq != nullptr) qp.send_cq->qps.erase(&qp);
    if (qp.receive_cq != nullptr) qp.receive_cq->qps.erase(&qp);
  });
}

void restart(Qp& qp, uint32_t generation) {
  with_cqs_locked(qp, [&] {
    const std::lock_guard ring_lock(qp.ring->lock);
    const std::lock_guard receive_lock(qp.receive_lock);
    qp.generation = generation;
    qp.rate_limit_kbps = 0;
    qp.sends_posted = 0;
    qp.sends_retired.store(0, std::memory_order_release);
    if (qp.has_receive_ring()) qp.receives.reset();
    qp.receives_retired.store(0, std::memory_order_release);
  });
}

ibv_qp* create_qp(ibv_pd* pd, ibv_qp_init_attr* attributes) {
  return null_on_error([&] { return create(pd, *attributes, 0, false); });
}

ibv_qp* create_qp_ex(ibv_context* context, ibv_qp_init_attr_ex* attributes) {
  constexpr uint32_t kKnown =
      IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS | IBV_QP_INIT_ATTR_CREATE_FLAGS;
  constexpr uint32_t kSpreading = IBV_QP_INIT_ATTR_IND_TABLE | IBV_QP_INIT_ATTR_RX_HASH;
  if ((attributes->comp_mask & kSpreading) != 0) return create_spreading_qp(*attributes);
  return null_on_error([&]() -> base::Result<ibv_qp*> {
    if (attributes->qp_type == IBV_QPT_XRC_RECV) {
      return create_target(Context::of(context), *attributes);
    }
    if ((attributes->comp_mask & ~kKnown) != 0) return base::Error{EOPNOTSUPP, ""};
    const bool has_flags = (attributes->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) != 0;
    if (has_flags && attributes->create_flags != 0) return base::Error{EOPNOTSUPP, ""};
    if ((attributes->comp_mask & IBV_QP_INIT_ATTR_PD) == 0) return base::Error{EINVAL, ""};
    const bool extended = (attributes->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) != 0;
    // The extended struct begins with the plain one.
    auto& plain = *reinterpret_cast<ibv_qp_init_attr*>(attributes);
    return create(attributes->pd, plain, attributes->send_ops_flags, extended);
  });
}

ibv_qp* open_qp(ibv_context* context, ibv_qp_open_attr* attributes) {
  return null_on_error([&] { return open_target(Context::of(context), *attributes); });
}

int modify_qp(ibv_qp* face, ibv_qp_attr* attributes, int mask) {
  return errno_on_error([&] {
    Qp& qp = Qp::of(face);
    protocol::ModifyQpRequest request{};
    request.qpn = qp.qpn;
    // The rate is a matter of the engine's scheduler, and no attribute of the transport.
    const bool sets_rate = (mask & IBV_QP_RATE_LIMIT) != 0;
    request.mask = static_cast<uint32_t>(mask & ~IBV_QP_RATE_LIMIT);
    if (sets_rate) {
      const bool moves = (mask & IBV_QP_STATE) != 0;
      const ibv_qp_state then = moves ? attributes->qp_state : face->state;
      if (const int error = check_rate(then, attributes->rate_limit); error != 0) return error;
    }
    if (const int error = to_engine(*attributes, request.mask, request.attributes); error != 0) {
      return error;
    }
    protocol::ModifyQpReply reply{};
    if (const int error = qp.context->call(request, reply); error != 0) return error;
    const auto state = static_cast<base::QpState>(reply.state);
    if ((mask & IBV_QP_STATE) != 0 && state == base::QpState::kReset) restart(qp, reply.generation);
    qp.state.store(state, std::memory_order_release);
    return sets_rate ? set_rate(qp, attributes->rate_limit, 0) : 0;
  });
}

int query_qp(ibv_qp* face, ibv_qp_attr* attributes, int, ibv_qp_init_attr* initial) {
  return errno_on_error([&] {
    Qp& qp = Qp::of(face);
    protocol::QueryQpRequest request{};
    request.qpn = qp.qpn;
    protocol::QueryQpReply reply{};
    if (const int error = qp.context->call(request, reply); error != 0) return error;
    from_engine(reply.attributes, *attributes);
    attributes->cap = qp.cap;
    attributes->rate_limit = qp.rate_limit_kbps;
    *initial = ibv_qp_init_attr{};
    initial->qp_context = face->qp_context;
    initial->send_cq = face->send_cq;
    initial->recv_cq = face->recv_cq;
    initial->srq = face->srq;
    initial->cap = qp.cap;
    initial->qp_type = face->qp_type;
    initial->sq_sig_all = qp.signal_all ? 1 : 0;
    qp.state.store(reply.attributes.state, std::memory_order_release);
    return 0;
  });
}

int destroy_qp(ibv_qp* face) {
  return errno_on_error([&] {
    Qp& qp = Qp::of(face);
    std::optional<protocol::DestroyReply> events;
    if (const int error = destroy_in_engine(qp, events); error != 0) return error;
    // From here on its completions in the rings belong to nobody.
    delist(qp);
    if (qp.context->state() != ContextState::kForeign) {
      settle_events({face->mutex, face->cond, face->events_completed, qp.async_events_reported,
                     qp.context->async_fd(), kAsyncRecordBytes, reinterpret_cast<uint64_t>(face)},
                    async_events(events));
    }
    Pd* const domain = qp.domain;
    delete &qp;
    if (domain != nullptr) --domain->users;
    return 0;
  });
}

}  // namespace flexins::provider
