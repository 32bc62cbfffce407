#pragma once

#include <algorithm>

#include "base/time.h"

namespace flexins::cm {

/// 4.096 µs · 2^exponent, as the messages have times (5 bits).
[[nodiscard]] constexpr base::TimeNs duration_ns(uint8_t exponent) {
  return base::TimeNs{4096} << std::min<uint8_t>(exponent, 31);
}

}  // namespace flexins::cm
