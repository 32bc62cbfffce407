#include "engine/flow_table.h"

#include <algorithm>
#include <tuple>

#include "wire/frame_key.h"

namespace flexins::engine {

void FlowTable::add(uint32_t id, const base::FlowRule& rule, QueuePair* qp) {
  const auto rank = [](const base::FlowRule& r) { return std::tuple(r.is_default, r.priority); };
  const auto at = std::upper_bound(
      entries_.begin(), entries_.end(), rule,
      [&](const base::FlowRule& one, const Entry& other) { return rank(one) < rank(other.rule); });
  entries_.insert(at, Entry{id, rule, qp});
}

bool FlowTable::remove(uint32_t id, const QueuePair* qp) {
  return std::erase_if(entries_, [&](const Entry& e) { return e.id == id && e.qp == qp; }) > 0;
}

void FlowTable::remove_all(const QueuePair* qp) {
  std::erase_if(entries_, [&](const Entry& e) { return e.qp == qp; });
}

QueuePair* FlowTable::find(const base::FlowKey& key, const QueuePair* except) const noexcept {
  for (const Entry& entry : entries_) {
    if (entry.qp != except && wire::fits(entry.rule, key)) return entry.qp;
  }
  return nullptr;
}

}  // namespace flexins::engine
