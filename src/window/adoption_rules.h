#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "window/maps.h"

namespace flexins::window {

/// What must be left as it is, although it is private memory.
class AdoptionRules {
 public:
  /// Rules for the mappings that [begin, end) touches, as this thread finds them now.
  AdoptionRules(std::span<const Mapping> mappings, uint64_t begin, uint64_t end);

  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  /// What of [begin, end), which lies in `mapping`, may be adopted.
  [[nodiscard]] std::vector<Range> allowed(const Mapping& mapping, uint64_t begin,
                                           uint64_t end) const;
  /// MADV_DONTFORK was set (libibverbs does, on registered memory): adopted pages keep that.
  [[nodiscard]] bool left_out_of_fork(const Mapping& mapping) const {
    return left_out_of_fork_.contains(mapping.begin);
  }

 private:
  void read_flags(uint64_t begin, uint64_t end);
  void find_own_memory(std::span<const Mapping> mappings);

  bool none_ = false;
  std::array<Range, 2> own_{};  ///< this thread could not go on without it
  std::set<uint64_t> refused_;  ///< by the mapping's first address
  std::set<uint64_t> left_out_of_fork_;
};

}  // namespace flexins::window
