#include <memory>

#include <fmt/format.h>

#include "cli/admin_client.h"
#include "cli/commands.h"
#include "cli/status_table.h"

namespace flexins::cli {
namespace {

struct StatusOptions {
  std::string engine;
  bool json = false;
};

int status(const StatusOptions& options) {
  auto client = AdminClient::connect(options.engine);
  if (!client) return report(client.error());
  auto answer = client->request({{"command", "status"}});
  if (!answer) return report(answer.error());
  fmt::print("{}", options.json ? answer->dump(2) + "\n" : status_table(*answer));
  return kDone;
}

}  // namespace

void add_status(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "status", "Show an engine: its programs, queue pairs, memory regions and counters");
  auto options = std::make_shared<StatusOptions>();
  add_engine_option(*command, options->engine);
  command->add_flag("--json", options->json, "For programs; nothing is left out");
  command->footer(
      "Users other than root and the engine's own see what is theirs.\n"
      "Exit status: 3 when no such engine is running.\n\n"
      "Examples:\n  flexins status\n  flexins status --json | jq .counters");
  command->callback([options, &action] { action = [options] { return status(*options); }; });
}

}  // namespace flexins::cli
