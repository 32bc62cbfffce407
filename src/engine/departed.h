#pragma once

#include <vector>

#include <absl/container/flat_hash_map.h>

#include "base/ids.h"
#include "base/time.h"
#include "transport/tombstone.h"

namespace flexins::engine {

/// QPs destroyed a short while ago, so that a lost last acknowledgement can be given again.
/// Bounded: a new one takes the place of the oldest.
class Departed {
 public:
  static constexpr size_t kMax = 1024;
  /// As long as a peer with a common timeout (67 ms) and seven retries keeps asking, and more.
  static constexpr base::TimeNs kLingerNs = 4 * base::kSecond;

  void add(base::Qpn qpn, const transport::Tombstone& tombstone, base::TimeNs now);
  /// Null when there is none, or its time is over.
  [[nodiscard]] const transport::Tombstone* find(base::Qpn qpn, base::TimeNs now) const noexcept;
  /// Numbers in here are not given out again.
  [[nodiscard]] bool contains(uint32_t qpn) const { return places_.contains(qpn); }

 private:
  struct Entry {
    base::Qpn qpn;
    base::TimeNs until = 0;
    transport::Tombstone tombstone;
  };
  std::vector<Entry> entries_;
  size_t oldest_ = 0;
  absl::flat_hash_map<uint32_t, size_t> places_;
};

}  // namespace flexins::engine
