#include <csignal>
#include <ctime>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "cli/admin_client.h"
#include "cli/commands.h"
#include "cli/quantity.h"

namespace flexins::cli {
namespace {

struct CaptureOptions {
  std::string engine;
  std::string file;
  std::string duration;
};

/// Waits; Ctrl-C ends it early.
void wait_or_interrupt(base::TimeNs duration) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const timespec span{static_cast<time_t>(duration / base::kSecond),
                      static_cast<long>(duration % base::kSecond)};
  sigtimedwait(&signals, nullptr, &span);
}

int stop(const CaptureOptions& options) {
  auto client = AdminClient::connect(options.engine);
  if (!client) return report(client.error());
  auto answer = client->request({{"command", "capture"}, {"stop", true}});
  if (!answer) return report(answer.error());
  fmt::print("captured {} packets to {}\n", answer->value("packets", uint64_t{0}),
             answer->value("file", std::string("?")));
  return kDone;
}

int start(const CaptureOptions& options) {
  base::Result<base::TimeNs> duration = base::TimeNs{0};
  if (!options.duration.empty()) duration = parse_duration(options.duration, base::kSecond);
  if (!duration) {
    report(duration.error());
    return kUsage;
  }
  auto client = AdminClient::connect(options.engine);
  if (!client) return report(client.error());
  // The engine has a working directory of its own.
  const std::string file = std::filesystem::absolute(options.file).lexically_normal();
  auto answer = client->request({{"command", "capture"}, {"start", file}});
  if (!answer) return report(answer.error());
  if (options.duration.empty()) {
    fmt::print("capturing to {}; end it with `flexins capture stop`\n", file);
    return kDone;
  }
  wait_or_interrupt(*duration);
  return stop(options);
}

}  // namespace

void add_capture(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("capture", "Write an engine's packets to a pcapng file");
  auto options = std::make_shared<CaptureOptions>();
  add_engine_option(*command, options->engine);
  command->require_subcommand(1);
  command->fallthrough();
  command->footer(
      "Wireshark and tshark open the file; packets that the engine dropped carry the reason.\n\n"
      "Examples:\n  flexins capture start rdma.pcapng --for 10s\n  flexins capture stop");
  CLI::App* begin = command->add_subcommand("start", "Begin to capture");
  begin->add_option("file", options->file, "File to write; the engine's user must be able to")
      ->required();
  begin->add_option("--for", options->duration, "Stop after this time, like 10s [until stop]");
  begin->footer("Example:\n  flexins capture start /tmp/rdma.pcapng --for 10s");
  begin->callback([=, &action] { action = [=] { return start(*options); }; });
  CLI::App* end = command->add_subcommand("stop", "End the capture and close its file");
  end->footer("Example:\n  flexins capture stop");
  end->callback([=, &action] { action = [=] { return stop(*options); }; });
}

}  // namespace flexins::cli
