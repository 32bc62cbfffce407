#include <chrono>
#include <memory>

#include <fmt/format.h>

#include "base/random.h"
#include "cli/commands.h"
#include "cli/quantity.h"
#include "sim/shrink.h"

/// `flexins sim`: worlds in virtual time, from seeds.

namespace flexins::cli {

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  uint64_t seed = 0;
  bool has_seed = false;
  std::string duration = "1s";
  std::string profile = "any";
  bool until_failure = false;
  uint64_t runs = 1;
  std::string trace;
  uint32_t hosts = 0, applications = 0, connections = 0;
  uint64_t operations = 0;
  std::vector<std::string> without;
  double shrink_s = 60;
};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// The scenario of `seed` with what the line changes in it. False, and says why, for bad words.
bool make_scenario(const Options& options, uint64_t seed, sim::Scenario& out) {
  sim::Profile profile;
  if (!sim::parse_profile(options.profile, profile)) {
    fmt::print(stderr, "flexins: no profile is called {}\n", options.profile);
    return false;
  }
  const auto duration = parse_duration(options.duration, base::kSecond);
  if (!duration.ok()) {
    fmt::print(stderr, "flexins: {}\n", duration.error().message);
    return false;
  }
  out = sim::Scenario::draw(seed, profile, *duration);
  if (options.hosts > 0) out.hosts = options.hosts;
  if (options.applications > 0) out.applications = options.applications;
  if (options.connections > 0) out.connections = options.connections;
  if (options.operations > 0) out.operations_max = options.operations;
  for (const std::string& name : options.without) {
    sim::FaultKind kind;
    if (!sim::parse_fault(name, kind)) {
      fmt::print(stderr, "flexins: no fault is called {}\n", name);
      return false;
    }
    out.faults[kind] = 0;
  }
  return true;
}

void print(const sim::Report& report, double wall_s) {
  fmt::print("  trace hash   {:016x}\n", report.trace_hash);
  fmt::print("  virtual time {:.6f} s in {:.2f} s\n", static_cast<double>(report.virtual_ns) / 1e9,
             wall_s);
  fmt::print("  operations   {} posted, {} done, {} receives, {} failed, {} flushed\n",
             report.operations, report.work.sends, report.work.receives, report.work.failed,
             report.work.flushed);
  fmt::print("  bytes        {} of payload\n", report.work.bytes);
  fmt::print("  connections  {}\n", report.connections);
  fmt::print("  packets      {} sent, {} delivered ({:.2f} million a second), {} bytes\n",
             report.fabric.frames, report.fabric.delivered,
             static_cast<double>(report.fabric.delivered) / wall_s / 1e6,
             report.fabric.delivered_bytes);
  fmt::print("  network      {} tail drops, {} ECN marks, {} pauses\n", report.fabric.tail_drops,
             report.fabric.ecn_marked, report.fabric.pauses);
  fmt::print("  faults       {}", report.faults.total());
  for (size_t i = 0; i < sim::kFaultKinds; ++i) {
    if (report.faults.done[i] == 0) continue;
    fmt::print(", {} {}", sim::to_string(static_cast<sim::FaultKind>(i)), report.faults.done[i]);
  }
  fmt::print("\n");
}

void print_violation(const sim::Scenario& scenario, const sim::Report& report) {
  fmt::print("VIOLATED: {}\n{}  again: flexins sim {}\n", report.violation->invariant,
             report.violation->detail, scenario.options());
}

int fail(const Options& options, const sim::Scenario& scenario, const sim::Report& report) {
  print_violation(scenario, report);
  const auto begin = Clock::now();
  const sim::Shrunk shrunk =
      sim::shrink(scenario, report, [&] { return seconds_since(begin) < options.shrink_s; });
  fmt::print("\nThe smallest of {} that break it too:\n", shrunk.attempts);
  print_violation(shrunk.scenario, shrunk.report);
  return kFailed;
}

int run_one(const Options& options, uint64_t seed) {
  sim::Scenario scenario;
  if (!make_scenario(options, seed, scenario)) return kUsage;
  // Said first: should a check of the engine's own end this process, the seed is known.
  fmt::print("seed {}: {} hosts, {} applications each, {} connections\n", seed, scenario.hosts,
             scenario.applications, scenario.connections);
  std::fflush(stdout);
  std::unique_ptr<sim::FrameFile> file;
  if (!options.trace.empty()) {
    auto created = sim::FrameFile::create(options.trace);
    if (!created.ok()) return report(created.error());
    file = std::move(*created);
  }
  const auto begin = Clock::now();
  const sim::Report done = sim::simulate(scenario, file.get());
  print(done, seconds_since(begin));
  return done.violation.has_value() ? fail(options, scenario, done) : kDone;
}

int simulate(const Options& options) {
  base::SystemRandom fresh;
  uint64_t seed = options.has_seed ? options.seed : fresh.next() >> 16;
  for (uint64_t run = 0; options.until_failure || run < options.runs; ++run) {
    if (const int status = run_one(options, seed); status != kDone) return status;
    seed = options.has_seed ? seed + 1 : fresh.next() >> 16;
  }
  return kDone;
}

}  // namespace

void add_sim(CLI::App& app, Action& action) {
  CLI::App& command = *app.add_subcommand(
      "sim", "Run engines in a simulated network in virtual time; everything follows from a seed");
  const auto options = std::make_shared<Options>();
  CLI::Option* seed = command.add_option("--seed", options->seed, "The seed; a fresh one without");
  command.add_option("--duration", options->duration,
                     "Virtual time with faults and new work (10s, 50ms; default 1s)");
  command.add_option("--profile", options->profile,
                     "What goes wrong: any (default), lossy, datacenter, hostile, churn");
  command.add_flag("--until-failure", options->until_failure,
                   "One seed after the other until an invariant breaks");
  command.add_option("--runs", options->runs, "So many seeds");
  command.add_option("--trace", options->trace, "Write all packets to this pcapng file");
  command.add_option("--hosts", options->hosts, "Not as many as drawn, but this many");
  command.add_option("--applications", options->applications, "Per host");
  command.add_option("--connections", options->connections, "Pairs of queue pairs");
  command.add_option("--operations", options->operations, "Post no more than these");
  command.add_option("--without", options->without, "Leave a kind of fault out");
  command.add_option("--shrink-seconds", options->shrink_s,
                     "How long to look for a smaller scenario that fails alike");
  command.callback([&action, options, seed] {
    options->has_seed = seed->count() > 0;
    action = [options] { return simulate(*options); };
  });
}

}  // namespace flexins::cli
