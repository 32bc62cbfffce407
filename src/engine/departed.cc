#include "engine/departed.h"

namespace flexins::engine {

void Departed::add(base::Qpn qpn, const transport::Tombstone& tombstone, base::TimeNs now) {
  const Entry entry{qpn, now + kLingerNs, tombstone};
  if (entries_.size() < kMax) {
    places_[qpn.value] = entries_.size();
    entries_.push_back(entry);
    return;
  }
  places_.erase(entries_[oldest_].qpn.value);
  places_[qpn.value] = oldest_;
  entries_[oldest_] = entry;
  oldest_ = (oldest_ + 1) % kMax;
}

const transport::Tombstone* Departed::find(base::Qpn qpn, base::TimeNs now) const noexcept {
  const auto found = places_.find(qpn.value);
  if (found == places_.end()) return nullptr;
  const Entry& entry = entries_[found->second];
  return now < entry.until ? &entry.tombstone : nullptr;
}

}  // namespace flexins::engine
