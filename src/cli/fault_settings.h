#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace flexins::cli {

/// "loss=1%" "delay=5us" "seed=7" … as the admin socket takes them. Errors: EINVAL naming the
/// setting.
base::Result<nlohmann::json> parse_fault_settings(const std::vector<std::string>& settings);

/// One line per fault in force, for people.
[[nodiscard]] std::string format_faults(const nlohmann::json& faults);

}  // namespace flexins::cli
