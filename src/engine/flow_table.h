#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/flow.h"

namespace flexins::engine {

struct QueuePair;

/// What the frames of some flows come to.
struct FlowCounters {
  base::FlowCounts counts;
  uint32_t flows = 0;
};

/// Who gets a frame, and where it is counted; null: nobody, nowhere.
struct FlowTarget {
  QueuePair* qp = nullptr;
  FlowCounters* counters = nullptr;
};

/// Which raw packet QP gets a frame. Control path but for find().
class FlowTable {
 public:
  static constexpr size_t kMax = 4096;

  [[nodiscard]] size_t size() const { return entries_.size(); }
  void add(uint32_t id, const base::FlowRule& rule, FlowTarget target);
  /// False when `qp` has no such rule.
  bool remove(uint32_t id, const QueuePair* qp);
  void remove_all(const QueuePair* qp);
  /// Whose rule fits the frame's key first. Rules of `except` do not count.
  [[nodiscard]] FlowTarget find(const base::FlowKey& key, const QueuePair* except) const noexcept;

 private:
  struct Entry {
    uint32_t id;
    base::FlowRule rule;
    FlowTarget target;
  };
  template <typename Predicate>
  size_t erase_if(Predicate&& gone);

  std::vector<Entry> entries_;  ///< in the order in which they are asked
};

}  // namespace flexins::engine
