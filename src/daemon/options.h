#pragma once

#include <optional>

#include "base/result.h"
#include "daemon/config.h"

namespace flexins::daemon {

/// What the command line of flexinsd came to.
struct Options {
  Config config;
  int ready_fd = -1;  ///< gets "ready DIRECTORY\n", or why not; -1: nobody waits
  /// Set when there is nothing to run (--help, --version, a wrong option): the exit status.
  std::optional<int> exit_status;
};

/// Reads command line and configuration file; the command line wins. Prints help and usage errors
/// itself. Errors: those of the file and of check_config.
base::Result<Options> read_options(int argc, const char* const* argv);

}  // namespace flexins::daemon
