#include "provider/cq.h"

#include <errno.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "base/verbs_types.h"
#include "protocol/messages_cq.h"
#include "provider/events.h"
#include "provider/guard.h"
#include "provider/qp.h"

namespace flexins::provider {

void QpTable::insert(Qp* qp) {
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), qp->qpn,
                                   [](const Entry& e, uint32_t qpn) { return e.qpn < qpn; });
  if (at != entries_.end() && at->qp == qp) return;  // both queues complete here
  entries_.insert(at, Entry{qp->qpn, qp});
}

void QpTable::erase(Qp* qp) {
  std::erase_if(entries_, [qp](const Entry& e) { return e.qp == qp; });
  last_ = {0, nullptr};
}

Qp* QpTable::find(uint32_t qpn) {
  if (last_.qp != nullptr && last_.qpn == qpn) return last_.qp;
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), qpn,
                                   [](const Entry& e, uint32_t wanted) { return e.qpn < wanted; });
  if (at == entries_.end() || at->qpn != qpn) return nullptr;
  last_ = *at;
  return at->qp;
}

namespace {

/// The shortest CQ granted. It has to hold what the shortest send queue granted (kLeastSendWr) can
/// complete: a program that asked for one of each may have several sends under way without knowing.
constexpr uint32_t kLeastCqe = 4 * kLeastSendWr;

base::Result<Cq*> create(Context& context, int depth, ibv_comp_channel* channel,
                         bool ignore_overrun) {
  if (depth < 1 || static_cast<uint32_t>(depth) > base::Limits::kMaxCqe) {
    return base::Error{EINVAL, ""};
  }
  auto cq = std::make_unique<Cq>();
  cq->context = &context;
  protocol::CreateCqRequest request{};
  request.cookie = reinterpret_cast<uint64_t>(&cq->face.cq);
  request.depth = std::max(static_cast<uint32_t>(depth), kLeastCqe);
  request.ignore_overrun = ignore_overrun ? 1 : 0;
  if (channel != nullptr) {
    cq->channel_fd = channel->fd;
    request.channel = context.channel_id(channel->fd);
    if (request.channel == 0) return base::Error{EINVAL, ""};
  }
  protocol::CreateCqReply reply{};
  protocol::ReceivedFds fds;
  if (const int error = context.call(request, reply, {}, &fds); error != 0) {
    return base::Error{error, ""};
  }
  cq->id = reply.cq;
  if (!cq->memory.map(fds.take(0), pipe::completion_ring_bytes(reply.depth))) {
    protocol::DestroyCqRequest undo{};
    undo.cq = reply.cq;
    context.call_to_free(undo);
    return base::Error{ENOMEM, ""};
  }
  cq->consumer = pipe::CompletionConsumer(cq->memory.base(), reply.depth);
  cq->face.cq.cqe = static_cast<int>(reply.depth);
  cq->face.cq.handle = reply.cq;
  context.add_cq(cq.get());
  return cq.release();
}

base::Result<ibv_cq_ex*> create_extended(ibv_context* face, const ibv_cq_init_attr_ex& wanted) {
  constexpr uint32_t kKnownMask = IBV_CQ_INIT_ATTR_MASK_FLAGS | IBV_CQ_INIT_ATTR_MASK_PD;
  constexpr uint32_t kKnownFlags =
      IBV_CREATE_CQ_ATTR_SINGLE_THREADED | IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN;
  const uint32_t flags = (wanted.comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS) != 0 ? wanted.flags : 0;
  if ((wanted.comp_mask & ~kKnownMask) != 0 || (wanted.wc_flags & ~kSupportedWcFlags) != 0) {
    return base::Error{EOPNOTSUPP, ""};
  }
  if ((flags & ~kKnownFlags) != 0 || wanted.cqe > base::Limits::kMaxCqe ||
      wanted.comp_vector >= static_cast<uint32_t>(face->num_comp_vectors)) {
    return base::Error{EINVAL, ""};
  }
  if ((wanted.comp_mask & IBV_CQ_INIT_ATTR_MASK_PD) != 0 &&
      (wanted.parent_domain == nullptr || !Pd::of(wanted.parent_domain).is_parent_domain())) {
    return base::Error{EINVAL, ""};
  }
  auto made = create(Context::of(face), static_cast<int>(wanted.cqe), wanted.channel,
                     (flags & IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN) != 0);
  if (!made) return made.error();
  Cq& cq = **made;
  if ((wanted.comp_mask & IBV_CQ_INIT_ATTR_MASK_PD) != 0) {
    cq.single_threaded = Pd::of(wanted.parent_domain).td != nullptr;
  }
  cq.single_threaded |= (flags & IBV_CREATE_CQ_ATTR_SINGLE_THREADED) != 0;
  enable_extended_polling(cq, wanted.wc_flags);
  return &cq.face.cq_ex;
}

void settle_all_events(Cq& cq, const std::optional<protocol::DestroyReply>& read) {
  ibv_cq& face = cq.face.cq;
  const auto cookie = reinterpret_cast<uint64_t>(&face);
  settle_events({face.mutex, face.cond, face.comp_events_completed, cq.completion_events_reported,
                 cq.channel_fd, kCompletionRecordBytes, cookie},
                completion_events(read));
  settle_events({face.mutex, face.cond, face.async_events_completed, cq.async_events_reported,
                 cq.context->async_fd(), kAsyncRecordBytes, cookie},
                async_events(read));
}

}  // namespace

ibv_cq* create_cq(ibv_context* context, int depth, ibv_comp_channel* channel, int vector) {
  return null_on_error([&]() -> base::Result<ibv_cq*> {
    if (vector < 0 || vector >= context->num_comp_vectors) return base::Error{EINVAL, ""};
    auto made = create(Context::of(context), depth, channel, false);
    if (!made) return made.error();
    return &(*made)->face.cq;
  });
}

ibv_cq_ex* create_cq_ex(ibv_context* context, ibv_cq_init_attr_ex* attributes) {
  return null_on_error([&] { return create_extended(context, *attributes); });
}

int modify_cq(ibv_cq* face, ibv_modify_cq_attr* attributes) {
  return errno_on_error([&] {
    if (attributes->attr_mask == 0) return 0;
    if ((attributes->attr_mask & ~uint32_t{IBV_CQ_ATTR_MODERATE}) != 0) return EINVAL;
    Cq& cq = Cq::of(face);
    protocol::ModifyCqRequest request{};
    request.cq = cq.id;
    request.count = attributes->moderate.cq_count;
    request.period_us = attributes->moderate.cq_period;
    protocol::EmptyReply reply{};
    return cq.context->call(request, reply);
  });
}

int resize_cq(ibv_cq* face, int depth) {
  return errno_on_error([&] {
    if (depth < 1 || static_cast<uint32_t>(depth) > base::Limits::kMaxCqe) return EINVAL;
    Cq& cq = Cq::of(face);
    protocol::ResizeCqRequest request{};
    request.cq = cq.id;
    request.wanted = static_cast<uint32_t>(depth);
    request.depth = std::max(request.wanted, kLeastCqe);
    protocol::ResizeCqReply reply{};
    protocol::ReceivedFds fds;
    // Nobody polls or arms while the ring changes under the engine.
    const std::lock_guard lock(cq.lock);
    cq.consumer.release();
    if (const int error = cq.context->call(request, reply, {}, &fds); error != 0) return error;
    SharedMemory memory;
    if (!memory.map(fds.take(0), pipe::completion_ring_bytes(reply.depth))) return ENOMEM;
    cq.consumer = pipe::CompletionConsumer(memory.base(), reply.depth, cq.consumer.position());
    cq.memory = std::move(memory);
    // The ring may be longer; but it is this that a later shrinking is measured by.
    face->cqe = static_cast<int>(pipe::round_up_power_of_two(request.wanted));
    return 0;
  });
}

int destroy_cq(ibv_cq* face) {
  return errno_on_error([&] {
    Cq& cq = Cq::of(face);
    {
      const std::lock_guard lock(cq.lock);
      if (!cq.qps.entries().empty()) return EBUSY;
    }
    protocol::DestroyCqRequest request{};
    request.cq = cq.id;
    std::optional<protocol::DestroyReply> events;
    if (const int error = cq.context->call_to_destroy(request, events); error != 0) return error;
    cq.context->remove_cq(&cq);
    // In a child after fork, events and those who read them are the parent's.
    if (cq.context->state() != ContextState::kForeign) settle_all_events(cq, events);
    delete &cq;
    return 0;
  });
}

int request_notify_cq(ibv_cq* face, int solicited_only) {
  Cq& cq = Cq::of(face);
  if (cq.context->state() == ContextState::kForeign) return EIO;
  const std::lock_guard lock(cq.lock);
  cq.consumer.arm(solicited_only != 0);
  return 0;
}

void on_completion_event(ibv_cq* face) {
  Cq::of(face).completion_events_reported.fetch_add(1, std::memory_order_acq_rel);
}

}  // namespace flexins::provider
