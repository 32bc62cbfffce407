#pragma once

#include <string>

#include "base/result.h"
#include "daemon/config.h"

namespace flexins::daemon {

/// Points spdlog's default logger to where `config` says; control path only. Errors: what opening
/// the file says.
base::Result<void> start_log(const Config& config, const std::string& engine_dir);

}  // namespace flexins::daemon
