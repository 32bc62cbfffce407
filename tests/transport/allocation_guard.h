#pragma once

#include <cstdint>

namespace flexins::transport::test {

/// While one lives, an allocation is counted as forbidden. The hot path runs inside of one.
class ForbidAllocation {
 public:
  ForbidAllocation();
  ~ForbidAllocation();
};

/// Lifts the ban, for what a fake does while the hot path calls it.
class AllowAllocation {
 public:
  AllowAllocation();
  ~AllowAllocation();

 private:
  int outer_;
};

/// Allocations made where they are forbidden, so far.
[[nodiscard]] uint64_t forbidden_allocations();

}  // namespace flexins::transport::test
