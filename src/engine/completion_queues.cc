#include <cerrno>

#include "engine/engine_impl.h"

/// Completion channels and completion queues.

namespace flexins::engine {

using base::Error;
using base::Result;

namespace {

Error no_such(const char* what) {
  return Error{ENOENT, std::string("no such ") + what + " in this context"};
}

bool valid_depth(uint32_t depth) {
  return depth > 0 && depth <= base::Limits::kMaxCqe && (depth & (depth - 1)) == 0;
}
Error bad_depth() { return Error{EINVAL, "the depth of a completion queue is out of range"}; }

}  // namespace

Result<base::ChannelId> EngineImpl::create_channel(base::ContextId id) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  if (context->channels.size() >= base::Limits::kMaxCq) {
    return Error{ENOMEM, "too many completion channels"};
  }
  const base::ChannelId channel{++last_id_};
  context->channels.emplace(channel.value, 0);
  return channel;
}

Result<void> EngineImpl::destroy_channel(base::ContextId id, base::ChannelId channel) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto it = context->channels.find(channel.value);
  if (it == context->channels.end()) return no_such("completion channel");
  if (it->second > 0) return Error{EBUSY, "completion queues still use this channel"};
  context->channels.erase(it);
  return {};
}

Result<base::CqId> EngineImpl::create_cq(base::ContextId id, const CreateCq& request,
                                         RingMemory ring) {
  const uint32_t depth = request.depth;
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  if (!valid_depth(depth)) return bad_depth();
  if (context->cqs.size() >= base::Limits::kMaxCq) return Error{ENOMEM, "too many CQs"};
  FLEXINS_CHECK(ring.bytes >= pipe::completion_ring_bytes(depth));
  if (request.channel.value != 0) {
    const auto it = context->channels.find(request.channel.value);
    if (it == context->channels.end()) return no_such("completion channel");
    ++it->second;
  }
  const base::CqId cq{++last_id_};
  CompletionQueue::Config config;
  config.id = cq;
  config.cookie = request.cookie;
  config.channel = request.channel;
  config.events = context->events;
  config.counters = &counters_;
  config.timers = &cq_timers_;
  config.now = &last_step_;
  config.ignore_overrun = request.ignore_overrun;
  context->cqs.emplace(cq.value, std::make_unique<CompletionQueue>(config, ring, depth));
  return cq;
}

Result<EventsRead> EngineImpl::destroy_cq(base::ContextId id, base::CqId cq) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto it = context->cqs.find(cq.value);
  if (it == context->cqs.end()) return no_such("completion queue");
  if (it->second->users > 0) return Error{EBUSY, "queue pairs still use this CQ"};
  if (const uint32_t channel = it->second->channel().value; channel != 0) {
    --context->channels[channel];
  }
  const EventsRead read = it->second->settle_events();
  context->cqs.erase(it);
  return read;
}

Result<void> EngineImpl::resize_cq(base::ContextId id, base::CqId cq, uint32_t depth,
                                   uint32_t wanted, RingMemory ring) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto it = context->cqs.find(cq.value);
  if (it == context->cqs.end()) return no_such("completion queue");
  if (!valid_depth(depth)) return bad_depth();
  FLEXINS_CHECK(ring.bytes >= pipe::completion_ring_bytes(depth));
  return it->second->move_to(ring, depth, wanted);
}

Result<void> EngineImpl::moderate_cq(base::ContextId id, base::CqId cq, uint32_t count,
                                     base::TimeNs period_ns) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto it = context->cqs.find(cq.value);
  if (it == context->cqs.end()) return no_such("completion queue");
  it->second->moderate(count, period_ns);
  return {};
}

}  // namespace flexins::engine
