#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace flexins::cli {

/// The engine's report as tables for a terminal. Fields that are missing (an engine of another
/// version) show as "-".
[[nodiscard]] std::string status_table(const nlohmann::json& status);

}  // namespace flexins::cli
