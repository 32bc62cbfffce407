#include "provider/srq.h"

#include <errno.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "base/verbs_types.h"
#include "protocol/messages_srq.h"
#include "provider/events.h"
#include "provider/guard.h"
#include "provider/qp.h"
#include "provider/xrc.h"

namespace flexins::provider {
namespace {

using base::Limits;

/// The shortest SRQ granted, for the same reason as kLeastSendWr.
constexpr uint32_t kLeastSrqWr = 16;

/// What an XRC SRQ has beyond others.
struct XrcParts {
  Xrcd* xrcd = nullptr;
  Cq* cq = nullptr;
};

base::Result<ibv_srq*> create(ibv_pd* pd, ibv_srq_attr& wanted, XrcParts xrc) {
  if (wanted.max_wr > Limits::kMaxSrqWr || wanted.max_sge > Limits::kMaxSge) {
    return base::Error{EINVAL, ""};
  }
  auto srq = std::make_unique<Srq>();
  srq->context = &Context::of(pd->context);
  srq->max_wr = std::max(wanted.max_wr, kLeastSrqWr);
  srq->max_sge = std::max(wanted.max_sge, 1u);
  protocol::CreateSrqRequest request{};
  request.cookie = reinterpret_cast<uint64_t>(&srq->face);
  request.pd = pd->handle;
  request.max_wr = srq->max_wr;
  request.max_sge = srq->max_sge;
  if (xrc.xrcd != nullptr) {
    request.xrcd = xrc.xrcd->handle;
    request.cq = xrc.cq->id;
  }
  protocol::CreateSrqReply reply{};
  protocol::ReceivedFds fds;
  if (const int error = srq->context->call(request, reply, {}, &fds); error != 0) {
    return base::Error{error, ""};
  }
  srq->number = reply.srq;
  if (!srq->memory.map(fds.take(0), pipe::receive_ring_bytes(reply.depth, srq->max_sge))) {
    protocol::DestroySrqRequest undo{};
    undo.srq = reply.srq;
    srq->context->call_to_free(undo);
    return base::Error{ENOMEM, ""};
  }
  srq->receives = pipe::ReceiveProducer(srq->memory.base(), reply.depth, srq->max_sge);
  srq->face.handle = reply.srq;
  wanted.max_wr = srq->max_wr;
  wanted.max_sge = srq->max_sge;
  return &srq.release()->face;
}

base::Result<ibv_srq*> create_extended(ibv_context* context, ibv_srq_init_attr_ex& wanted) {
  const auto has = [&wanted](uint32_t bit) { return (wanted.comp_mask & bit) != 0; };
  const ibv_srq_type type = has(IBV_SRQ_INIT_ATTR_TYPE) ? wanted.srq_type : IBV_SRQT_BASIC;
  if (wanted.comp_mask >= IBV_SRQ_INIT_ATTR_RESERVED || has(IBV_SRQ_INIT_ATTR_TM) ||
      (type != IBV_SRQT_BASIC && type != IBV_SRQT_XRC)) {
    return base::Error{EOPNOTSUPP, ""};
  }
  if (!has(IBV_SRQ_INIT_ATTR_PD) || wanted.pd == nullptr) return base::Error{EINVAL, ""};
  XrcParts xrc;
  if (type == IBV_SRQT_XRC) {
    if (!has(IBV_SRQ_INIT_ATTR_XRCD) || !has(IBV_SRQ_INIT_ATTR_CQ) || wanted.xrcd == nullptr ||
        wanted.cq == nullptr) {
      return base::Error{EINVAL, ""};
    }
    xrc = {&Xrcd::of(wanted.xrcd), &Cq::of(wanted.cq)};
  }
  auto made = create(wanted.pd, wanted.attr, xrc);
  if (!made) return made;
  // Of an SRQ that is made this way libibverbs fills in nothing.
  ibv_srq& face = **made;
  face.context = context;
  face.srq_context = wanted.srq_context;
  face.pd = wanted.pd;
  ::pthread_mutex_init(&face.mutex, nullptr);
  ::pthread_cond_init(&face.cond, nullptr);
  return made;
}

/// Under the SRQ's lock.
int post_one(Srq& srq, const ibv_recv_wr& wr) {
  if (wr.num_sge < 0 || static_cast<uint32_t>(wr.num_sge) > srq.max_sge) return EINVAL;
  if (srq.receives.position() - srq.receives.consumed() >= srq.max_wr) return ENOMEM;
  write_receive(srq.receives, wr);
  return 0;
}

int arm(Srq& srq, uint32_t limit) {
  protocol::ModifySrqRequest request{};
  protocol::EmptyReply reply{};
  request.srq = srq.number;
  request.limit = limit;
  return srq.context->call(request, reply);
}

/// `lost`: the engine has gone over to a ring that we could not map.
int resize(Srq& srq, uint32_t max_wr, bool& lost) {
  if (max_wr < 1 || max_wr > Limits::kMaxSrqWr) return EINVAL;
  protocol::ResizeSrqRequest request{};
  protocol::ResizeSrqReply reply{};
  protocol::ReceivedFds fds;
  request.srq = srq.number;
  request.max_wr = std::max(max_wr, kLeastSrqWr);
  // Nobody posts while the ring changes under the engine.
  const std::lock_guard lock(srq.lock);
  // It is what the program asks for that counts, and not what it is granted beyond.
  if (srq.receives.position() - srq.receives.consumed() > max_wr) return EINVAL;
  if (const int error = srq.context->call(request, reply, {}, &fds); error != 0) return error;
  SharedMemory memory;
  lost = !memory.map(fds.take(0), pipe::receive_ring_bytes(reply.depth, srq.max_sge));
  if (lost) return ENOMEM;
  srq.receives =
      pipe::ReceiveProducer(memory.base(), reply.depth, srq.max_sge, srq.receives.position());
  srq.memory = std::move(memory);
  srq.max_wr = request.max_wr;
  return 0;
}

}  // namespace

ibv_srq* create_srq(ibv_pd* pd, ibv_srq_init_attr* attributes) {
  return null_on_error([&] { return create(pd, attributes->attr, {}); });
}

ibv_srq* create_srq_ex(ibv_context* context, ibv_srq_init_attr_ex* attributes) {
  return null_on_error([&] { return create_extended(context, *attributes); });
}

int modify_srq(ibv_srq* face, ibv_srq_attr* attributes, int mask) {
  return errno_on_error([&] {
    Srq& srq = Srq::of(face);
    if ((mask & ~(IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT)) != 0) return EINVAL;
    const bool resizes = (mask & IBV_SRQ_MAX_WR) != 0;
    const bool arms = (mask & IBV_SRQ_LIMIT) != 0;
    const uint32_t max_wr = resizes ? attributes->max_wr : srq.max_wr;
    if (arms && attributes->srq_limit > max_wr) return EINVAL;
    if (resizes) {
      bool lost = false;
      const int error = resize(srq, max_wr, lost);
      if (lost) srq.context->mark_dead();
      if (error != 0) return error;
    }
    return arms ? arm(srq, attributes->srq_limit) : 0;
  });
}

int query_srq(ibv_srq* face, ibv_srq_attr* attributes) {
  return errno_on_error([&] {
    Srq& srq = Srq::of(face);
    protocol::QuerySrqRequest request{};
    protocol::QuerySrqReply reply{};
    request.srq = srq.number;
    if (const int error = srq.context->call(request, reply); error != 0) return error;
    attributes->max_wr = srq.max_wr;
    attributes->max_sge = srq.max_sge;
    attributes->srq_limit = reply.limit;
    return 0;
  });
}

int destroy_srq(ibv_srq* face) {
  return errno_on_error([&] {
    Srq& srq = Srq::of(face);
    protocol::DestroySrqRequest request{};
    request.srq = srq.number;
    std::optional<protocol::DestroyReply> events;
    if (const int error = srq.context->call_to_destroy(request, events); error != 0) return error;
    if (srq.context->state() != ContextState::kForeign) {
      settle_events({face->mutex, face->cond, face->events_completed, srq.async_events_reported,
                     srq.context->async_fd(), kAsyncRecordBytes, reinterpret_cast<uint64_t>(face)},
                    async_events(events));
    }
    delete &srq;
    return 0;
  });
}

int get_srq_number(ibv_srq* face, uint32_t* number) {
  *number = Srq::of(face).number;
  return 0;
}

int post_srq_receive(ibv_srq* face, ibv_recv_wr* first, ibv_recv_wr** bad) {
  Srq& srq = Srq::of(face);
  int error = srq.context->live() ? 0 : EIO;
  ibv_recv_wr* wr = first;
  if (error == 0) {
    const std::lock_guard lock(srq.lock);
    for (; wr != nullptr; wr = wr->next) {
      error = post_one(srq, *wr);
      if (error != 0) break;
    }
    if (wr != first) srq.receives.publish();
  }
  if (error != 0) *bad = wr;
  return error;
}

}  // namespace flexins::provider
