#include <cerrno>

#include "engine/engine_impl.h"

/// Protection domains and memory regions.

namespace flexins::engine {

using base::Error;
using base::Result;
using memory::kWindowKeyVariantBits;

namespace {

Error no_such(const char* what) {
  return Error{ENOENT, std::string("no such ") + what + " in this context"};
}

Error windows_bound() { return Error{EBUSY, "memory windows are bound to this region"}; }

bool wraps(uint64_t address, uint64_t length) { return length > UINT64_MAX - address; }

/// IBTA 10.6.3.1.
Result<void> check_access(uint32_t access) {
  constexpr uint32_t kNeedsLocalWrite = base::kAccessRemoteWrite | base::kAccessRemoteAtomic;
  if ((access & kNeedsLocalWrite) != 0 && (access & base::kAccessLocalWrite) == 0) {
    return Error{EINVAL, "remote write or atomic access needs local write access"};
  }
  return {};
}

}  // namespace

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
  if (auto checked = check_access(region.access); !checked) return checked.error();
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
  if (regions_.find(key)->bound_windows > 0) return windows_bound();
  detach_train();
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

Result<void> EngineImpl::reregister_region(base::ContextId id, base::MemoryKey key,
                                           RegionChanges changes, memory::Region with) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const auto owned = context->regions.find(key.value);
  if (owned == context->regions.end()) return no_such("memory region");
  memory::Region& region = *regions_.find(key);
  if (region.bound_windows > 0) return windows_bound();
  if (changes.pd && !context->pds.contains(with.pd.value)) return no_such("protection domain");
  if (changes.window) {
    if (auto checked = check_access(with.access); !checked) return checked;
    if (wraps(with.address, with.length) || wraps(with.window_base, with.length)) {
      return Error{EINVAL, "the region's range wraps around the address space"};
    }
  }
  // Packets that wait to be sent may refer to the old memory.
  detach_train();
  if (changes.pd) {
    --context->pds[region.pd.value];
    ++context->pds[with.pd.value];
    region.pd = owned->second = with.pd;
  }
  if (changes.window) {
    region.address = with.address;
    region.length = with.length;
    region.window_base = with.window_base;
    region.access = with.access;
    region.window = std::move(with.window);
  }
  return {};
}

Result<void> EngineImpl::share_pd(base::ContextId id, base::ContextId owner_id, base::PdId pd) {
  Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const Context* owner = find_context(owner_id);
  if (owner == nullptr || !owner->pds.contains(pd.value)) {
    return Error{ENOENT, "no such protection domain in that context"};
  }
  if (context->pds.contains(pd.value)) return Error{EEXIST, "this context has that PD already"};
  if (context->pds.size() >= base::Limits::kMaxPd) {
    return Error{ENOMEM, "too many protection domains"};
  }
  context->pds.emplace(pd.value, 0);
  return {};
}

Result<uint64_t> EngineImpl::region_length(base::ContextId id, base::PdId pd, base::MemoryKey key) {
  const Context* context = find_context(id);
  if (context == nullptr) return no_such("context");
  const memory::Region* region = regions_.find(key);
  if (region == nullptr || region->pd != pd || !context->pds.contains(pd.value)) {
    return Error{ENOENT, "no such memory region in that protection domain"};
  }
  return region->length;
}

}  // namespace flexins::engine
