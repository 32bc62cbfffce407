#include <memory>

#include <fmt/format.h>

#include "cli/admin_client.h"
#include "cli/commands.h"
#include "cli/fault_settings.h"

namespace flexins::cli {
namespace {

using Json = nlohmann::json;

struct FaultsOptions {
  std::string engine;
  std::vector<std::string> settings;
  bool json = false;
};

int ask(const FaultsOptions& options, const Json& set) {
  auto client = AdminClient::connect(options.engine);
  if (!client) return report(client.error());
  Json request = {{"command", "faults"}};
  if (!set.is_null()) request["set"] = set;
  auto answer = client->request(request);
  if (!answer) return report(answer.error());
  fmt::print("{}", options.json ? answer->dump() + "\n" : format_faults(*answer));
  return kDone;
}

int set_faults(const FaultsOptions& options) {
  auto settings = parse_fault_settings(options.settings);
  if (settings) return ask(options, *settings);
  report(settings.error());
  return kUsage;
}

}  // namespace

void add_faults(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("faults", "Make an engine's network bad on purpose");
  auto options = std::make_shared<FaultsOptions>();
  add_engine_option(*command, options->engine);
  command->add_flag("--json", options->json, "For programs");
  command->require_subcommand(0, 1);
  command->fallthrough();
  command->footer(
      "Alone: shows what is injected. Faults hit packets that the engine sends to other engines.\n"
      "The same seed makes the same choices.\n\nExamples:\n"
      "  flexins faults set loss=1% duplicate=1% reorder=5% seed=7\n"
      "  flexins faults set delay=50us\n"
      "  flexins faults off");
  CLI::App* set = command->add_subcommand("set", "Change faults; what is not named stays");
  set->add_option("settings", options->settings,
                  "loss=, duplicate=, reorder=, corrupt= (1% or 0.01), delay= (5us), seed=")
      ->required();
  set->footer("Example:\n  flexins faults set loss=1% reorder=5%");
  CLI::App* off = command->add_subcommand("off", "No more faults");
  off->footer("Example:\n  flexins faults off");
  command->callback([=, &action] {
    action = [=] {
      if (set->parsed()) return set_faults(*options);
      return ask(*options, off->parsed() ? Json(false) : Json());
    };
  });
}

}  // namespace flexins::cli
