#include "window/run_table.h"

#include <algorithm>

namespace flexins::window {

void RunTable::split(uint64_t address) {
  auto after = runs_.upper_bound(address);
  if (after == runs_.begin()) return;
  auto& [begin, run] = *std::prev(after);
  if (begin == address || run.end <= address) return;
  runs_.emplace_hint(after, address, run);
  run.end = address;
}

void RunTable::forget(uint64_t begin, uint64_t end) {
  split(begin);
  split(end);
  runs_.erase(runs_.lower_bound(begin), runs_.lower_bound(end));
}

void RunTable::renew(uint64_t begin, uint64_t end, bool left_out_of_fork) {
  forget(begin, end);
  runs_.emplace(begin, Run{end, 0, ++births_, left_out_of_fork});
}

void RunTable::acquire(uint64_t begin, uint64_t end, std::vector<Share>& out) {
  split(begin);
  split(end);
  for (uint64_t at = begin; at < end;) {
    auto next = runs_.lower_bound(at);
    if (next == runs_.end() || next->first != at) {
      const uint64_t gap_end = next == runs_.end() ? end : std::min(end, next->first);
      next = runs_.emplace_hint(next, at, Run{gap_end, 0, ++births_, false});
    }
    ++next->second.references;
    out.push_back({at, next->second.end, next->second.born});
    at = next->second.end;
  }
}

void RunTable::release(const Share& share, std::vector<Share>& unused) {
  // Later registrations may have split the run, never moved its bounds.
  for (auto run = runs_.lower_bound(share.begin); run != runs_.end() && run->first < share.end;
       ++run) {
    Run& state = run->second;
    if (state.born != share.born || state.references == 0) continue;
    if (--state.references == 0) unused.push_back({run->first, state.end, state.born});
  }
}

bool RunTable::touches(uint64_t begin, uint64_t end) const {
  const auto after = runs_.lower_bound(end);
  return after != runs_.begin() && std::prev(after)->second.end > begin;
}

}  // namespace flexins::window
