#pragma once

#include <cstdint>

namespace flexins::base {

/// A point in time, or a span of it, in nanoseconds. Which clock it is read from is the caller's
/// affair: the daemon uses CLOCK_MONOTONIC, the simulator its virtual clock.
using TimeNs = uint64_t;

inline constexpr TimeNs kNever = UINT64_MAX;
inline constexpr TimeNs kMicrosecond = 1'000;
inline constexpr TimeNs kMillisecond = 1'000'000;
inline constexpr TimeNs kSecond = 1'000'000'000;

}  // namespace flexins::base
