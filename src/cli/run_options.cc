#include <memory>

#include "cli/commands.h"
#include "cli/run.h"

namespace flexins::cli {

void add_run(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("run", "Run a program that sees the device flexins0 beside real ones");
  auto options = std::make_shared<RunOptions>();
  add_engine_option(*command, options->engine_name);
  command->add_option("program", options->arguments, "Program and its arguments")->required();
  command->footer(
      "Starts an engine if none runs; that one ends 10 s after its last client. Children of the\n"
      "program see the device too. Static and setuid programs cannot be helped.\n"
      "Exit status: the program's; 125 flexins itself failed, 126 not runnable, 127 not found.\n\n"
      "Examples:\n"
      "  flexins run -- ibv_devinfo -v\n"
      "  flexins run --engine left -- ib_write_bw -d flexins0");
  command->callback([options, &action] { action = [options] { return run_command(*options); }; });
}

}  // namespace flexins::cli
