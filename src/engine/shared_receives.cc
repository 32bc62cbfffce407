#include "engine/shared_receives.h"

#include <algorithm>
#include <cerrno>

#include "engine/engine_impl.h"

namespace flexins::engine {

using base::Error;
using base::Result;

bool SharedReceives::take(transport::ReceiveWqe& out) noexcept {
  if (!ring_.take(out.wr_id, out.sge, out.sge_count)) return false;
  ring_.release();
  if (limit_ != 0 && ring_.available() < limit_) {
    limit_ = 0;
    events_.send(*config_.context->events, config_.cookie, base::AsyncEvent::kSrqLimitReached);
  }
  return true;
}

void SharedReceives::complete(const transport::Completion& completion) noexcept {
  config_.cq->push(completion, pipe::kNoGeneration);
}

EventsRead SharedReceives::settle_events() const noexcept {
  return {0, events_.settle(*config_.context->events, config_.cookie)};
}

Result<void> SharedReceives::move_to(RingMemory ring, uint32_t depth, uint32_t max_wr) {
  if (limit_ > max_wr) return Error{EINVAL, "the limit that is armed is larger"};
  if (ring_.available() > max_wr || !ring_.move_to(ring.base, depth)) {
    return Error{EINVAL, "more receives are posted than the SRQ would hold"};
  }
  return {};
}

base::Srqn EngineImpl::unused_srqn() {
  for (;;) {
    const auto number = static_cast<uint32_t>(config_.random->next()) & base::Psn::kMask;
    if (number != 0 && !srqs_.contains(number)) return base::Srqn{number};
  }
}

Result<SharedReceives*> EngineImpl::find_srq(base::ContextId id, base::Srqn srq) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto it = context->srqs.find(srq.value);
  if (it == context->srqs.end()) return Error{ENOENT, "no such SRQ in this context"};
  return it->second.get();
}

Result<base::Srqn> EngineImpl::create_srq(base::ContextId id, const CreateSrq& request,
                                          RingMemory ring) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto pd = context->pds.find(request.pd.value);
  if (pd == context->pds.end()) return Error{ENOENT, "no such protection domain in this context"};
  if (request.max_wr == 0 || request.max_wr > base::Limits::kMaxSrqWr ||
      request.max_sge > base::Limits::kMaxSge) {
    return Error{EINVAL, "SRQ limits exceeded"};
  }
  if (srqs_.size() >= base::Limits::kMaxSrq) return Error{ENOMEM, "too many SRQs"};
  const uint32_t depth = pipe::round_up_power_of_two(request.max_wr);
  FLEXINS_CHECK(ring.bytes >= pipe::receive_ring_bytes(depth, request.max_sge));
  SharedReceives::Config config;
  config.context = context;
  config.pd = request.pd;
  config.cookie = request.cookie;
  config.max_sge = request.max_sge;
  if (request.xrcd.value != 0) {
    const auto handle = context->xrcds.find(request.xrcd.value);
    const auto cq = context->cqs.find(request.cq.value);
    if (handle == context->xrcds.end() || cq == context->cqs.end()) {
      return Error{ENOENT, "the domain or CQ of this XRC SRQ does not exist"};
    }
    config.xrcd = request.xrcd;
    config.domain = handle->second.domain.get();
    config.cq = cq->second.get();
  }
  const base::Srqn srq = unused_srqn();
  auto receives = std::make_unique<SharedReceives>(
      config, pipe::ReceiveConsumer(ring.base, depth, request.max_sge));
  if (config.domain != nullptr) {
    ++context->xrcds[config.xrcd.value].users;
    ++config.cq->users;
    config.domain->add(srq.value, receives.get());
  }
  ++pd->second;
  srqs_.emplace(srq.value, receives.get());
  context->srqs.emplace(srq.value, std::move(receives));
  return srq;
}

Result<void> EngineImpl::arm_srq(base::ContextId id, base::Srqn srq, uint32_t limit) {
  auto found = find_srq(id, srq);
  if (!found.ok()) return found.error();
  (*found)->arm(limit);
  return {};
}

Result<void> EngineImpl::resize_srq(base::ContextId id, base::Srqn srq, uint32_t max_wr,
                                    RingMemory ring) {
  auto found = find_srq(id, srq);
  if (!found.ok()) return found.error();
  if (max_wr == 0 || max_wr > base::Limits::kMaxSrqWr) {
    return Error{EINVAL, "SRQ limits exceeded"};
  }
  const uint32_t depth = pipe::round_up_power_of_two(max_wr);
  FLEXINS_CHECK(ring.bytes >= pipe::receive_ring_bytes(depth, (*found)->max_sge()));
  return (*found)->move_to(ring, depth, max_wr);
}

Result<uint32_t> EngineImpl::query_srq_limit(base::ContextId id, base::Srqn srq) {
  auto found = find_srq(id, srq);
  if (!found.ok()) return found.error();
  return (*found)->limit();
}

Result<EventsRead> EngineImpl::destroy_srq(base::ContextId id, base::Srqn srq) {
  auto found = find_srq(id, srq);
  if (!found.ok()) return found.error();
  if ((*found)->users > 0) return Error{EBUSY, "queue pairs still use this SRQ"};
  const EventsRead read = (*found)->settle_events();
  remove_srq(*find_context(id), srq);
  return read;
}

void EngineImpl::remove_srq(Context& context, base::Srqn srq) {
  const auto it = context.srqs.find(srq.value);
  const SharedReceives::Config& config = it->second->config();
  if (config.domain != nullptr) {
    config.domain->remove(srq.value);
    --config.cq->users;
    --context.xrcds[config.xrcd.value].users;
  }
  --context.pds[config.pd.value];
  srqs_.erase(srq.value);
  context.srqs.erase(it);
}

}  // namespace flexins::engine
