#include <algorithm>
#include <cstring>
#include <set>

#include "sim/oracle.h"

/// Atomics: what each returned fits one order in which all of them happened.

namespace flexins::sim {

void Oracle::check_counters() {
  for (Counter& counter : counters_) {
    if (counter.arena->buried()) continue;
    if (counter.swaps) {
      check_swaps(counter);
    } else {
      check_additions(counter);
    }
  }
}

/// Each adds one: the originals are all different, and those that are missing were seen by requests
/// of which nobody knows whether they were done.
void Oracle::check_additions(Counter& counter) {
  uint64_t value = 0;
  std::memcpy(&value, counter.arena->at(counter.address), sizeof value);
  std::vector<Counter::Change>& done = counter.changes;
  if (value < done.size() || value > done.size() + counter.unknown) {
    return violate("atomics", nullptr,
                   "a counter stands at " + std::to_string(value) + " after " +
                       std::to_string(done.size()) + " additions and " +
                       std::to_string(counter.unknown) + " unknown ones");
  }
  std::sort(done.begin(), done.end(),
            [](const auto& a, const auto& b) { return a.original < b.original; });
  base::TimeNs earliest = base::kNever;  // completion of those that happened later
  for (size_t i = done.size(); i-- > 0;) {
    if (i + 1 < done.size() && done[i].original == done[i + 1].original) {
      return violate("atomics", nullptr, "two additions saw " + std::to_string(done[i].original));
    }
    if (done[i].original >= value) {
      return violate("atomics", nullptr, "an addition saw what the counter never was");
    }
    if (earliest < done[i].posted) {
      return violate("atomics", nullptr, "an addition was overtaken by one posted after its end");
    }
    earliest = std::min(earliest, done[i].completed);
  }
}

/// Each that succeeds puts a value that no other puts: every value is replaced once at most.
void Oracle::check_swaps(Counter& counter) {
  std::set<uint64_t> replaced;
  for (const Counter::Change& change : counter.changes) {
    if (change.original != change.compare) continue;
    if (!replaced.insert(change.original).second) {
      return violate("atomics", nullptr, "a value was replaced twice by compare-and-swap");
    }
  }
}

}  // namespace flexins::sim
