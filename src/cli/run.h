#pragma once

#include <string>
#include <vector>

namespace flexins::cli {

struct RunOptions {
  std::string engine_name;             ///< empty: $FLEXINS_ENGINE, or "default"
  std::vector<std::string> arguments;  ///< the program and its arguments
};

/// Exit statuses of `flexins run` itself; all others are the program's.
inline constexpr int kExitOwnFailure = 125;   ///< no engine, wrong installation
inline constexpr int kExitNotRunnable = 126;  ///< static, setuid, no permission
inline constexpr int kExitNotFound = 127;

/// Becomes the program, with the environment in which it sees the engine's device; starts an engine
/// if none runs. Libraries are looked for in ../lib and ../lib/flexins from this tool. Returns only
/// if that fails: the exit status, after a message on standard error.
int run_command(const RunOptions& options);

}  // namespace flexins::cli
