#pragma once

#include <optional>
#include <string>

#include "base/result.h"

namespace flexins::cli {

/// The directory of the engine called `name` that answers on its session socket; none: nobody does.
/// Errors: EINVAL for a bad name, EACCES where there is an engine that this user may not use.
base::Result<std::optional<std::string>> find_running_engine(const std::string& name);

/// Starts engine `name` in the background, to exit 10 s after its last client and to log to `log`
/// in its directory; returns that directory once clients can connect, after 15 s at most. An engine
/// that somebody else is just starting will do. Errors: what the engine said, ETIMEDOUT.
base::Result<std::string> start_engine(const std::string& name);

}  // namespace flexins::cli
