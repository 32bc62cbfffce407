#include "cli/commands.h"

#include <cerrno>
#include <memory>

#include <fmt/format.h>

#include "completion_script.h"
#include "protocol/runtime_dir.h"

namespace flexins::cli {

CLI::Option* add_engine_option(CLI::App& command, std::string& name) {
  name = protocol::engine_name();
  return command.add_option("-e,--engine", name,
                            "Name of the engine [$FLEXINS_ENGINE or 'default']");
}

int report(const base::Error& error) {
  fmt::print(stderr, "flexins: {}\n", error.message);
  return error.code == ENOENT ? kNoEngine : kFailed;
}

void add_completion(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("completion", "Print a completion script for a shell");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash")->required()->check(CLI::IsMember({"bash"}));
  command->footer("Example:\n  source <(flexins completion bash)");
  command->callback([shell, &action] {
    action = [shell] {
      fmt::print("{}", kBashCompletion);
      return kDone;
    };
  });
}

void add_version(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("version", "Print the version of FlexiNS");
  command->footer("Example:\n  flexins version");
  command->callback([&action] {
    action = [] {
      fmt::print("flexins {}\n", FLEXINS_VERSION);
      return kDone;
    };
  });
}

}  // namespace flexins::cli
