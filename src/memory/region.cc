#include "memory/region.h"

#include <cerrno>
#include <limits>

namespace flexins::memory {

namespace {

bool wraps(uint64_t address, uint64_t length) {
  return length > std::numeric_limits<uint64_t>::max() - address;
}

}  // namespace

bool RegionTable::recently_freed(uint32_t key) const {
  for (const uint32_t freed : freed_) {
    if (freed == key) return true;
  }
  return false;
}

base::Result<base::MemoryKey> RegionTable::insert(Region region) {
  if (wraps(region.address, region.length) || wraps(region.window_base, region.length)) {
    return base::Error{EINVAL, "the region's range wraps around the address space"};
  }
  if (regions_.size() >= base::Limits::kMaxMr) {
    return base::Error{ENOMEM, "the engine holds as many memory regions as it may"};
  }
  // 0 also fills the unused places of freed_, so it is never given out. At most 2^20 of 2^32 keys
  // are taken: a second draw is rare, a long run of them impossible in practice.
  uint32_t key = 0;
  do {
    key = static_cast<uint32_t>(random_.next());
  } while (key == 0 || regions_.contains(key) || windows_.contains(key >> kWindowKeyVariantBits) ||
           recently_freed(key));
  region.key = base::MemoryKey{key};
  regions_.emplace(key, std::make_unique<Region>(std::move(region)));
  return base::MemoryKey{key};
}

bool RegionTable::erase(base::MemoryKey key) {
  if (regions_.erase(key.value) == 0) return false;
  remember_freed(key.value);
  return true;
}

void RegionTable::remember_freed(uint32_t key) {
  freed_[freed_next_] = key;
  freed_next_ = (freed_next_ + 1) % freed_.size();
}

Region* RegionTable::find(base::MemoryKey key) noexcept {
  const auto found = regions_.find(key.value);
  if (found != regions_.end()) return found->second.get();
  MemoryWindow* window = find_window(key);
  const bool grants = window != nullptr && window->region != nullptr && window->shown.key == key;
  return grants ? &window->shown : nullptr;
}

RegionTable::Checked RegionTable::check(base::MemoryKey key, base::PdId pd, uint32_t access,
                                        uint64_t address, uint64_t length,
                                        base::Qpn remote_qpn) noexcept {
  Region* region = find(key);
  if (region == nullptr) return {nullptr, AccessError::kNoSuchKey};
  if (region->is_memory_window &&
      (remote_qpn.value == 0 || (region->only_qpn.value != 0 && region->only_qpn != remote_qpn))) {
    return {nullptr, AccessError::kNotPermitted};
  }
  if (region->pd != pd) return {nullptr, AccessError::kWrongPd};
  if ((region->access & access) != access) return {nullptr, AccessError::kNotPermitted};
  // Written so that no sum can wrap, whatever a peer names.
  if (address < region->address || length > region->length ||
      address - region->address > region->length - length) {
    return {nullptr, AccessError::kOutOfBounds};
  }
  return {region, AccessError::kNone};
}

}  // namespace flexins::memory
