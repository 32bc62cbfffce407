#pragma once

#include <string>

#include "base/result.h"
#include "base/time.h"

/// Numbers with units, as people write and read them.

namespace flexins::cli {

/// "1%", "0.5 %" or "0.01": a share of 1. Errors: EINVAL.
base::Result<double> parse_share(const std::string& text);

/// "5us", "10ms", "2s" or "1m"; ns. A number without a unit counts as `unit`. Errors: EINVAL.
base::Result<base::TimeNs> parse_duration(const std::string& text, base::TimeNs unit);

/// "17 B", "1.2 MiB".
[[nodiscard]] std::string format_bytes(uint64_t bytes);

/// "3 s", "2 min", "5 h", "9 d".
[[nodiscard]] std::string format_seconds(uint64_t seconds);

}  // namespace flexins::cli
