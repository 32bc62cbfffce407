#include <cerrno>
#include <limits>

#include "memory/region.h"

/// Memory windows (IBTA 10.6.7): rights to part of a region that a work request gives and takes.

namespace flexins::memory {

namespace {

constexpr uint32_t kIndexMask = std::numeric_limits<uint32_t>::max() >> kWindowKeyVariantBits;

constexpr uint32_t kWindowAccess =
    base::kAccessRemoteWrite | base::kAccessRemoteRead | base::kAccessRemoteAtomic;

}  // namespace

/// A region's key, or a key freed a short while ago, must not become one of a window's 256.
bool RegionTable::index_in_use(uint32_t index) const {
  if (index == 0 || windows_.contains(index)) return true;
  for (const uint32_t freed : freed_) {
    if (freed >> kWindowKeyVariantBits == index) return true;
  }
  for (uint32_t variant = 0; variant < 1u << kWindowKeyVariantBits; ++variant) {
    if (regions_.contains(index << kWindowKeyVariantBits | variant)) return true;
  }
  return false;
}

base::Result<base::MemoryKey> RegionTable::allocate_window(base::PdId pd, base::MwType type) {
  if (windows_.size() >= base::Limits::kMaxMw) {
    return base::Error{ENOMEM, "the engine holds as many memory windows as it may"};
  }
  uint32_t index = 0;
  do {
    index = static_cast<uint32_t>(random_.next()) & kIndexMask;
  } while (index_in_use(index));
  auto window = std::make_unique<MemoryWindow>();
  window->type = type;
  window->shown.pd = pd;
  window->shown.is_memory_window = true;
  window->shown.key = base::MemoryKey{index << kWindowKeyVariantBits};
  const base::MemoryKey key = window->shown.key;
  windows_.emplace(index, std::move(window));
  return key;
}

RegionTable::MemoryWindow* RegionTable::find_window(base::MemoryKey key) noexcept {
  const auto found = windows_.find(key.value >> kWindowKeyVariantBits);
  return found == windows_.end() ? nullptr : found->second.get();
}

void RegionTable::unbind(MemoryWindow& window) noexcept {
  if (window.region != nullptr) --window.region->bound_windows;
  window.region = nullptr;
  window.shown.window.reset();
}

bool RegionTable::free_window(base::MemoryKey key) {
  MemoryWindow* window = find_window(key);
  if (window == nullptr) return false;
  unbind(*window);
  remember_freed(window->shown.key.value);
  windows_.erase(key.value >> kWindowKeyVariantBits);
  return true;
}

bool RegionTable::bind(const Binding& binding) noexcept {
  MemoryWindow* window = find_window(binding.window);
  if (window == nullptr || window->shown.pd != binding.pd ||
      window != find_window(binding.new_key)) {
    return false;
  }
  const bool is_type2 = window->type == base::MwType::kType2;
  Region& shown = window->shown;
  if (binding.length == 0) {
    // How a window of type 1 is invalidated; type 2 has a work request for it.
    if (is_type2) return false;
    unbind(*window);
    shown.key = binding.new_key;
    return true;
  }
  if (is_type2 && window->region != nullptr) return false;
  constexpr uint32_t kAccepted = kWindowAccess | base::kAccessLocalWrite | base::kAccessZeroBased;
  if ((binding.access & ~kAccepted) != 0) return false;
  constexpr uint32_t kStores = base::kAccessRemoteWrite | base::kAccessRemoteAtomic;
  const uint32_t needed =
      base::kAccessMwBind | ((binding.access & kStores) != 0 ? base::kAccessLocalWrite : 0u);
  // As for local access: a window cannot be bound to another window.
  const Checked checked =
      check(binding.region, binding.pd, needed, binding.address, binding.length);
  if (checked.region == nullptr) return false;
  unbind(*window);
  window->region = checked.region;
  ++checked.region->bound_windows;
  shown.key = binding.new_key;
  shown.address = (binding.access & base::kAccessZeroBased) != 0 ? 0 : binding.address;
  shown.length = binding.length;
  shown.window_base = checked.region->window_address(binding.address);
  shown.access = binding.access & kWindowAccess;
  shown.window = checked.region->window;
  shown.only_qpn = is_type2 ? binding.qpn : base::Qpn{};
  return true;
}

bool RegionTable::invalidate(base::MemoryKey key, base::PdId pd, base::Qpn qpn) noexcept {
  MemoryWindow* window = find_window(key);
  if (window == nullptr || window->type != base::MwType::kType2) return false;
  const Region& shown = window->shown;
  if (window->region == nullptr || shown.key != key || shown.pd != pd || shown.only_qpn != qpn) {
    return false;
  }
  unbind(*window);
  return true;
}

}  // namespace flexins::memory
