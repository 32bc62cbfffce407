#include <algorithm>
#include <cerrno>

#include "engine/engine_impl.h"

namespace flexins::engine {

using base::Error;
using base::Result;

namespace {

using memory::kWindowKeyVariantBits;

Error no_such(const char* what) {
  return Error{ENOENT, std::string("no such ") + what + " in this context"};
}

}  // namespace

std::unique_ptr<Engine> Engine::create(const EngineConfig& config) {
  return std::make_unique<EngineImpl>(config);
}

EngineImpl::EngineImpl(const EngineConfig& config)
    : config_(config),
      regions_(*config.random),
      staging_(new std::byte[kBurstPackets * wire::kMaxMtuBytes]) {
  FLEXINS_CHECK(config.local != nullptr && config.random != nullptr);
  // Of a peer's buffer nothing is known; that it is no smaller than ours is the best guess.
  if (config.network != nullptr) {
    config_.peer_window_bytes =
        std::min(config.peer_window_bytes, config.network->capabilities().receive_buffer_bytes);
  }
  for (size_t i = 0; i < kBurstPackets; ++i) {
    train_[i].staging = staging_.get() + i * wire::kMaxMtuBytes;
  }
}

EngineImpl::~EngineImpl() {
  while (!contexts_.empty()) close_context(contexts_.begin()->second->id);
}

Context* EngineImpl::find_context(base::ContextId id) {
  const auto it = contexts_.find(id.value);
  return it == contexts_.end() ? nullptr : it->second.get();
}

Result<base::ContextId> EngineImpl::open_context(EventSink* events, RingMemory submission) {
  FLEXINS_CHECK(submission.bytes >= pipe::submission_ring_bytes());
  auto context = std::make_unique<Context>();
  context->id = base::ContextId{++last_id_};
  context->events = events;
  context->submission_rings.reserve(pipe::kMaxSubmissionRings);
  context->submission_rings.emplace_back(submission.base);
  const base::ContextId id = context->id;
  contexts_.emplace(id.value, std::move(context));
  return id;
}

void EngineImpl::close_context(base::ContextId id) {
  Context* context = find_context(id);
  if (context == nullptr) return;
  while (!context->qps.empty()) remove_qp(*context, base::Qpn{context->qps.begin()->first});
  withdraw_train();
  while (!context->srqs.empty()) remove_srq(*context, base::Srqn{context->srqs.begin()->first});
  for (const auto& [index, pd] : context->windows) {
    regions_.free_window(base::MemoryKey{index << kWindowKeyVariantBits});
  }
  for (const auto& [key, pd] : context->regions) regions_.erase(base::MemoryKey{key});
  ready_contexts_.remove(context);
  contexts_.erase(id.value);
}

Result<uint32_t> EngineImpl::add_submission_ring(base::ContextId id, RingMemory ring) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  FLEXINS_CHECK(ring.bytes >= pipe::submission_ring_bytes());
  if (context->submission_rings.size() == pipe::kMaxSubmissionRings) {
    return Error{ENOSPC, "a context has at most 16 submission rings"};
  }
  context->submission_rings.emplace_back(ring.base);
  return static_cast<uint32_t>(context->submission_rings.size() - 1);
}

Result<base::PdId> EngineImpl::allocate_pd(base::ContextId id) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  if (context->pds.size() >= base::Limits::kMaxPd) {
    return Error{ENOMEM, "too many protection domains"};
  }
  const base::PdId pd{++last_id_};
  context->pds.emplace(pd.value, 0);
  return pd;
}

Result<void> EngineImpl::free_pd(base::ContextId id, base::PdId pd) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto it = context->pds.find(pd.value);
  if (it == context->pds.end()) return no_such("protection domain");
  if (it->second > 0) return Error{EBUSY, "regions, windows or queues still use this PD"};
  context->pds.erase(it);
  return {};
}

Result<base::MemoryKey> EngineImpl::register_region(base::ContextId id, memory::Region region) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto pd = context->pds.find(region.pd.value);
  if (pd == context->pds.end()) return no_such("protection domain");
  constexpr uint32_t kNeedsLocalWrite = base::kAccessRemoteWrite | base::kAccessRemoteAtomic;
  if ((region.access & kNeedsLocalWrite) != 0 && (region.access & base::kAccessLocalWrite) == 0) {
    return Error{EINVAL, "remote write or atomic access needs local write access"};
  }
  const base::PdId pd_id = region.pd;
  auto key = regions_.insert(std::move(region));
  if (!key.ok()) return key;
  ++pd->second;
  context->regions.emplace(key->value, pd_id);
  return key;
}

Result<void> EngineImpl::deregister_region(base::ContextId id, base::MemoryKey key) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto it = context->regions.find(key.value);
  if (it == context->regions.end()) return no_such("memory region");
  if (regions_.find(key)->bound_windows > 0) {
    return Error{EBUSY, "memory windows are bound to this region"};
  }
  withdraw_train();
  --context->pds[it->second.value];
  context->regions.erase(it);
  regions_.erase(key);
  return {};
}

Result<base::MemoryKey> EngineImpl::allocate_window(base::ContextId id, base::PdId pd,
                                                    base::MwType type) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto it = context->pds.find(pd.value);
  if (it == context->pds.end()) return no_such("protection domain");
  auto key = regions_.allocate_window(pd, type);
  if (!key.ok()) return key;
  ++it->second;
  context->windows.emplace(key->value >> kWindowKeyVariantBits, pd);
  return key;
}

Result<void> EngineImpl::free_window(base::ContextId id, base::MemoryKey key) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto it = context->windows.find(key.value >> kWindowKeyVariantBits);
  if (it == context->windows.end()) return no_such("memory window");
  --context->pds[it->second.value];
  context->windows.erase(it);
  regions_.free_window(key);
  return {};
}

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

Result<base::CqId> EngineImpl::create_cq(base::ContextId id, uint64_t cookie, uint32_t depth,
                                         base::ChannelId channel, RingMemory ring) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  if (depth == 0 || depth > base::Limits::kMaxCqe || (depth & (depth - 1)) != 0) {
    return Error{EINVAL, "the depth of a completion queue is out of range"};
  }
  if (context->cqs.size() >= base::Limits::kMaxCq) return Error{ENOMEM, "too many CQs"};
  FLEXINS_CHECK(ring.bytes >= pipe::completion_ring_bytes(depth));
  if (channel.value != 0) {
    const auto it = context->channels.find(channel.value);
    if (it == context->channels.end()) return no_such("completion channel");
    ++it->second;
  }
  const base::CqId cq{++last_id_};
  const CompletionQueue::Config config{cq, cookie, channel, context->events, &counters_};
  context->cqs.emplace(cq.value, std::make_unique<CompletionQueue>(config, ring, depth));
  return cq;
}

Result<void> EngineImpl::destroy_cq(base::ContextId id, base::CqId cq) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto it = context->cqs.find(cq.value);
  if (it == context->cqs.end()) return no_such("completion queue");
  if (it->second->users > 0) return Error{EBUSY, "queue pairs still use this CQ"};
  if (const uint32_t channel = it->second->channel().value; channel != 0) {
    --context->channels[channel];
  }
  context->cqs.erase(it);
  return {};
}

EngineInfo EngineImpl::info() const {
  EngineInfo info;
  for (const auto& [id, context] : contexts_) {
    ContextInfo row{context->id};
    row.pds = static_cast<uint32_t>(context->pds.size());
    row.cqs = static_cast<uint32_t>(context->cqs.size());
    row.qps = static_cast<uint32_t>(context->qps.size());
    row.regions = static_cast<uint32_t>(context->regions.size());
    row.windows = static_cast<uint32_t>(context->windows.size());
    row.srqs = static_cast<uint32_t>(context->srqs.size());
    info.contexts.push_back(row);
    for (const auto& [qpn, qp] : context->qps) {
      QpInfo entry;
      entry.qpn = base::Qpn{qpn};
      entry.context = context->id;
      entry.type = qp->transport->config().type;
      entry.attributes = qp->transport->query();
      entry.counters = qp->transport->counters();
      entry.outstanding_sends = qp->transport->outstanding_sends();
      info.qps.push_back(entry);
    }
    for (const auto& [key, pd] : context->regions) {
      // The table is logically const here; find() is not, since callers use what it gives.
      const memory::Region* region =
          const_cast<memory::RegionTable&>(regions_).find(base::MemoryKey{key});
      if (region == nullptr) continue;
      info.regions.push_back({base::MemoryKey{key}, context->id, region->address, region->length,
                              region->access, region->window->kind()});
    }
  }
  info.counters = counters_.rows();
  return info;
}

}  // namespace flexins::engine
