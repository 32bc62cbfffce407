#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace flexins::window {

/// Adopted pages and how many registrations cover them. Runs are disjoint; all pages of a run have
/// the same number of references.
class RunTable {
 public:
  struct Run {
    uint64_t end = 0;
    uint32_t references = 0;
    uint64_t born = 0;              ///< tells a run from a later one at the same address
    bool left_out_of_fork = false;  ///< the program wants no such memory in its children
  };
  /// A share in a run.
  struct Share {
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t born = 0;
  };
  using Runs = std::map<uint64_t, Run>;

  /// Forgets what is known of [begin, end), then adds it as a run without references.
  void renew(uint64_t begin, uint64_t end, bool left_out_of_fork);
  /// Forgets [begin, end); shares in it become void.
  void forget(uint64_t begin, uint64_t end);
  /// One more reference to all pages of [begin, end); pages not known yet become a run.
  void acquire(uint64_t begin, uint64_t end, std::vector<Share>& out);
  /// One reference less; appends the runs that have none left (they stay in the table).
  void release(const Share& share, std::vector<Share>& unused);

  [[nodiscard]] const Runs& runs() const { return runs_; }
  [[nodiscard]] bool touches(uint64_t begin, uint64_t end) const;
  void clear() { runs_.clear(); }

 private:
  void split(uint64_t address);

  Runs runs_;
  uint64_t births_ = 0;
};

}  // namespace flexins::window
