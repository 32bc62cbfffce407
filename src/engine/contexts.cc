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
  close_targets(*context);
  while (!context->qps.empty()) remove_qp(*context, base::Qpn{context->qps.begin()->first});
  while (!context->srqs.empty()) remove_srq(*context, base::Srqn{context->srqs.begin()->first});
  while (!context->xrcds.empty())
    remove_xrcd(*context, base::XrcdId{context->xrcds.begin()->first});
  for (const auto& [index, pd] : context->windows) {
    regions_.free_window(base::MemoryKey{index << kWindowKeyVariantBits});
  }
  detach_train();  // of a QP of another context, that shares the PD or receives from an XRC SRQ
                   // here
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

void EngineImpl::announce(base::AsyncEvent event) {
  constexpr uint64_t kPortNumber = 1;
  const uint64_t element = event == base::AsyncEvent::kDeviceFatal ? 0 : kPortNumber;
  for (auto& [id, context] : contexts_) context->events->async_event(element, event);
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
    row.xrcds = static_cast<uint32_t>(context->xrcds.size());
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
