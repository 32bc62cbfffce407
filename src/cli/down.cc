#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <memory>

#include <fmt/format.h>

#include "cli/admin_client.h"
#include "cli/commands.h"
#include "cli/quantity.h"
#include "protocol/runtime_dir.h"

namespace flexins::cli {
namespace {

constexpr useconds_t kLookAgainUs = 10'000;

struct DownOptions {
  std::string engine;
  std::string timeout = "5s";
  bool force = false;
};

/// A living engine holds a lock on its file; a dead one cannot.
bool is_gone(const std::string& engine_dir) {
  const std::string file = protocol::lock_file_path(engine_dir);
  base::UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return errno == ENOENT;
  return ::flock(fd.get(), LOCK_SH | LOCK_NB) == 0;
}

bool wait_until_gone(const std::string& engine_dir, base::TimeNs timeout) {
  for (base::TimeNs waited = 0; waited <= timeout; waited += kLookAgainUs * base::kMicrosecond) {
    if (is_gone(engine_dir)) return true;
    ::usleep(kLookAgainUs);
  }
  return false;
}

int kill_engine(const std::string& engine_dir) {
  pid_t pid = 0;
  std::ifstream(protocol::lock_file_path(engine_dir)) >> pid;
  if (pid <= 1 || ::kill(pid, SIGKILL) != 0) {
    fmt::print(stderr, "flexins: cannot kill the engine in {}\n", engine_dir);
    return kFailed;
  }
  fmt::print("engine (pid {}) was killed\n", pid);
  return wait_until_gone(engine_dir, base::kSecond) ? kDone : kFailed;
}

/// The directory of an engine that lives but does not answer.
std::string stuck_engine_dir(const std::string& name) {
  for (const std::string& dir : protocol::engine_dirs(name)) {
    if (!is_gone(dir)) return dir;
  }
  return {};
}

int down(const DownOptions& options) {
  auto timeout = parse_duration(options.timeout, base::kSecond);
  if (!timeout) {
    report(timeout.error());
    return kUsage;
  }
  auto client = AdminClient::connect(options.engine);
  const std::string dir = client ? client->engine_dir() : stuck_engine_dir(options.engine);
  auto stopped = client ? client->request({{"command", "stop"}})
                        : base::Result<nlohmann::json>(client.error());
  if (stopped && wait_until_gone(dir, *timeout)) {
    fmt::print("engine '{}' is down\n", options.engine);
    return kDone;
  }
  if (options.force && !dir.empty()) return kill_engine(dir);
  if (!stopped) return report(stopped.error());
  fmt::print(stderr, "flexins: engine '{}' is still there after {}; --force kills it\n",
             options.engine, options.timeout);
  return kFailed;
}

}  // namespace

void add_down(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("down", "Stop an engine and wait until it is gone");
  auto options = std::make_shared<DownOptions>();
  add_engine_option(*command, options->engine);
  command->add_option("--timeout", options->timeout, "How long to wait [5s]");
  command->add_flag("--force", options->force, "Kill it if it has not gone by then");
  command->footer(
      "Running work gets up to 2 s to finish.\nExit status: 3 when no such engine is running.\n\n"
      "Examples:\n  flexins down\n  flexins down --engine left --force");
  command->callback([options, &action] { action = [options] { return down(*options); }; });
}

}  // namespace flexins::cli
