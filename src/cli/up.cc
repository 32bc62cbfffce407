#include <memory>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "cli/admin_client.h"
#include "cli/commands.h"
#include "cli/engine_process.h"

namespace flexins::cli {
namespace {

struct UpOptions {
  std::string engine;
  std::vector<std::string> addresses;
  std::optional<std::string> config;
  std::optional<std::string> log_level;
  std::optional<std::string> log_file;
  std::optional<int64_t> exit_when_idle_s;
  std::optional<std::string> neighbours_directory;
  bool no_neighbours = false;
  uint32_t workers = 1;
  bool engine_given = false;
  bool foreground = false;
};

std::vector<std::string> engine_arguments(const UpOptions& options) {
  std::vector<std::string> arguments;
  const auto add = [&](const char* option, const std::optional<std::string>& value) {
    if (value) arguments.insert(arguments.end(), {option, *value});
  };
  add("--config", options.config);
  // A name that nobody typed must not win against the configuration file's.
  if (options.engine_given) add("--engine", options.engine);
  for (const std::string& address : options.addresses) add("--address", address);
  add("--neighbours-dir", options.neighbours_directory);
  if (options.no_neighbours) arguments.push_back("--no-neighbours");
  add("--log-level", options.log_level);
  add("--log-file", options.log_file);
  if (options.exit_when_idle_s) {
    add("--exit-when-idle", std::to_string(*options.exit_when_idle_s));
  }
  return arguments;
}

int up(const UpOptions& options) {
  if (options.workers != 1) {
    fmt::print(stderr,
               "flexins: --workers {}: this version runs one worker per engine; start further "
               "engines on other addresses instead\n",
               options.workers);
    return kUsage;
  }
  std::vector<std::string> arguments = engine_arguments(options);
  if (options.foreground) return report(become_engine(arguments));
  // Nobody reads the standard error of a detached process.
  if (!options.log_file) arguments.insert(arguments.end(), {"--log-file", "auto"});
  auto started = start_detached(arguments);
  if (!started) return report(started.error());
  fmt::print("engine is up: {}\n", *started);
  return kDone;
}

}  // namespace

void add_up(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("up", "Start an engine in the background");
  auto options = std::make_shared<UpOptions>();
  CLI::Option* engine = add_engine_option(*command, options->engine);
  command->add_option("-n,--name", options->engine, "The same as --engine")->excludes(engine);
  command->add_option("-a,--address", options->addresses,
                      "Address to serve; may be given several times [all of this host]");
  command->add_option("-c,--config", options->config, "TOML file for flexinsd");
  command->add_option("--workers", options->workers, "Worker threads; this version has one [1]");
  command->add_option("--exit-when-idle", options->exit_when_idle_s,
                      "Stop this many seconds after the last client has gone [-1: never]");
  command->add_option("--neighbours-dir", options->neighbours_directory,
                      "Where engines of this machine find each other, to exchange packets through "
                      "shared memory [`neighbours` in the runtime directory]");
  command->add_flag("--no-neighbours", options->no_neighbours,
                    "Reach engines of this machine over the network too");
  command->add_option("--log-level", options->log_level, "debug, info, warn, error or off");
  command->add_option("--log-file", options->log_file, "[`log` in the engine's directory]");
  command->add_flag("-f,--foreground", options->foreground, "Stay in this terminal");
  command->footer(
      "Returns when programs can use the engine.\n\nExamples:\n"
      "  flexins up\n"
      "  flexins up --name left --address 127.0.0.1\n"
      "  flexins up --name right --address 127.0.0.2");
  command->callback([command, options, &action] {
    options->engine_given = command->count("--engine") + command->count("--name") > 0;
    action = [options] { return up(*options); };
  });
}

}  // namespace flexins::cli
