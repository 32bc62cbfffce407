#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/flow.h"

namespace flexins::engine {

struct QueuePair;

/// Which raw packet QP gets a frame. Control path but for find().
class FlowTable {
 public:
  static constexpr size_t kMax = 4096;

  [[nodiscard]] size_t size() const { return entries_.size(); }
  void add(uint32_t id, const base::FlowRule& rule, QueuePair* qp);
  /// False when `qp` has no such rule.
  bool remove(uint32_t id, const QueuePair* qp);
  void remove_all(const QueuePair* qp);
  /// Whose rule fits the frame's key first; null: nobody's. Rules of `except` do not count.
  [[nodiscard]] QueuePair* find(const base::FlowKey& key, const QueuePair* except) const noexcept;

 private:
  struct Entry {
    uint32_t id;
    base::FlowRule rule;
    QueuePair* qp;
  };
  std::vector<Entry> entries_;  ///< in the order in which they are asked
};

}  // namespace flexins::engine
