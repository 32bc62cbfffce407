#include <algorithm>
#include <exception>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "cli/commands.h"

namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  flexins run -- ib_write_bw -d flexins0 &     a server, and an engine if none runs\n"
    "  flexins run -- ib_write_bw -d flexins0 127.0.0.1\n"
    "  flexins status\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such engine is running;\n"
    "`run` exits with the status of its program.\n"
    "Environment: FLEXINS_ENGINE names the engine, FLEXINS_RUNTIME_DIR where engines live.";

/// The command line last word first, as CLI11 takes it. What follows the program of `run` is the
/// program's, options too: where nobody wrote it, `--` is put before the program.
std::vector<std::string> arguments_backwards(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words.front() == "run") {
    auto word = words.begin() + 1;
    while (word != words.end() && word->starts_with('-') && *word != "--") {
      const bool takes_next = *word == "-e" || *word == "--engine";
      word += takes_next && word + 1 != words.end() ? 2 : 1;
    }
    if (word != words.end() && *word != "--") words.insert(word, "--");
  }
  std::reverse(words.begin(), words.end());
  return words;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace flexins::cli;
  CLI::App app("FlexiNS: RDMA without an RNIC, for unmodified programs.", "flexins");
  Action action;
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("flexins ") + FLEXINS_VERSION);
  app.footer(kFooter);
  for (const auto add : {add_run, add_up, add_down, add_status, add_faults, add_capture, add_sim,
                         add_completion, add_version}) {
    add(app, action);
  }
  try {
    app.parse(arguments_backwards(argc, argv));
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kUsage;
  }
  try {
    return action();
  } catch (const std::exception& error) {
    fmt::print(stderr, "flexins: {}\n", error.what());
    return kFailed;
  }
}
