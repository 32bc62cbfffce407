#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "base/result.h"

namespace flexins::cli {

/// What flexins exits with.
enum ExitStatus : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,     ///< wrong option or argument
  kNoEngine = 3,  ///< the engine that was asked for is not running
};

/// The command that the line chose; each sub-command sets it when it is parsed.
using Action = std::function<int()>;

void add_run(CLI::App& app, Action& action);
void add_up(CLI::App& app, Action& action);
void add_down(CLI::App& app, Action& action);
void add_status(CLI::App& app, Action& action);
void add_faults(CLI::App& app, Action& action);
void add_capture(CLI::App& app, Action& action);
void add_sim(CLI::App& app, Action& action);
void add_completion(CLI::App& app, Action& action);
void add_version(CLI::App& app, Action& action);

/// The option -e/--engine, bound to `name`, which starts as $FLEXINS_ENGINE or "default".
CLI::Option* add_engine_option(CLI::App& command, std::string& name);

/// Prints "flexins: …" to standard error; the exit status that fits.
int report(const base::Error& error);

}  // namespace flexins::cli
