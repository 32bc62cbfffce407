#pragma once

#include <optional>
#include <string>

#include "base/result.h"

namespace flexins::cli {

/// The directory of the engine called `name` that answers on its session socket; none: nobody does.
/// Errors: EINVAL for a bad name, EACCES where there is an engine that this user may not use.
base::Result<std::optional<std::string>> find_running_engine(const std::string& name);

/// Starts `daemon` (the file) in the background as engine `name`, to exit 10 s after its last
/// client, and waits until it takes clients, 15 s at most. Its output goes to `log` in its
/// directory. Returns that directory; an engine that somebody else is just starting will do.
/// Errors: the reason with the end of the log, ETIMEDOUT.
base::Result<std::string> start_engine(const std::string& daemon, const std::string& name);

}  // namespace flexins::cli
