#include "engine/flow_table.h"

#include <algorithm>
#include <tuple>

#include "wire/frame_key.h"

namespace flexins::engine {

void FlowTable::add(uint32_t id, const base::FlowRule& rule, FlowTarget target) {
  const auto rank = [](const base::FlowRule& r) { return std::tuple(r.is_default, r.priority); };
  const auto at = std::upper_bound(
      entries_.begin(), entries_.end(), rule,
      [&](const base::FlowRule& one, const Entry& other) { return rank(one) < rank(other.rule); });
  entries_.insert(at, Entry{id, rule, target});
  if (target.counters != nullptr) ++target.counters->flows;
}

template <typename Predicate>
size_t FlowTable::erase_if(Predicate&& gone) {
  for (const Entry& entry : entries_) {
    if (entry.target.counters != nullptr && gone(entry)) --entry.target.counters->flows;
  }
  return std::erase_if(entries_, gone);
}

bool FlowTable::remove(uint32_t id, const QueuePair* qp) {
  return erase_if([&](const Entry& e) { return e.id == id && e.target.qp == qp; }) > 0;
}

void FlowTable::remove_all(const QueuePair* qp) {
  erase_if([&](const Entry& e) { return e.target.qp == qp; });
}

FlowTarget FlowTable::find(const base::FlowKey& key, const QueuePair* except) const noexcept {
  for (const Entry& entry : entries_) {
    if (entry.target.qp != except && wire::fits(entry.rule, key)) return entry.target;
  }
  return {};
}

}  // namespace flexins::engine
