#include "daemon/options.h"

#include <CLI/CLI.hpp>

#include "protocol/runtime_dir.h"

namespace flexins::daemon {
namespace {

/// Command-line values; what is not given leaves the file's value alone.
struct Given {
  std::string config_file;
  std::optional<std::string> engine_name;
  std::vector<std::string> addresses;
  std::optional<std::string> runtime_dir;
  std::optional<int64_t> exit_when_idle_s;
  std::optional<uint32_t> workers;
  bool spin = false;
  std::optional<int> cpu;
  std::optional<uint32_t> idle_spin_us_max;
  std::optional<uint32_t> idle_yield_us;
  std::optional<uint64_t> peer_window_bytes;
  std::optional<uint64_t> receive_buffer_bytes;
  std::optional<uint32_t> read_chunk_bytes;
  bool no_neighbours = false;
  std::optional<std::string> neighbours_directory;
  std::optional<std::string> log_level;
  std::optional<std::string> log_file;
};

void describe_engine(CLI::App& app, Given& given) {
  app.add_option("-c,--config", given.config_file, "TOML file; see docs/configuration.md")
      ->group("Engine");
  app.add_option("-e,--engine", given.engine_name,
                 "Name of this engine [$FLEXINS_ENGINE or 'default']")
      ->group("Engine");
  app.add_option("-a,--address", given.addresses,
                 "Address to serve, one GID each; may be given several times [every address of "
                 "every interface that is up, loopback last]")
      ->group("Engine");
  app.add_option("--runtime-dir", given.runtime_dir,
                 "Where sockets live [$FLEXINS_RUNTIME_DIR, else /run/flexins for root, "
                 "$XDG_RUNTIME_DIR/flexins or /tmp/flexins-UID]")
      ->group("Engine");
  app.add_option("--exit-when-idle", given.exit_when_idle_s,
                 "Exit this many seconds after the last client has gone [-1: never]")
      ->group("Engine");
}

void describe_worker(CLI::App& app, Given& given) {
  app.add_option("--workers", given.workers, "Worker threads; this version has one [1]")
      ->group("Worker");
  app.add_flag("--spin", given.spin, "Never sleep: for a worker with a core of its own")
      ->group("Worker");
  app.add_option("--cpu", given.cpu, "CPU to keep the worker on [-1: any]")->group("Worker");
  app.add_option("--idle-spin-us-max", given.idle_spin_us_max,
                 "Longest busy spin of an idle worker, in microseconds [5]")
      ->group("Worker");
  app.add_option("--idle-yield-us", given.idle_yield_us,
                 "After that it yields its core for so many microseconds, then sleeps [100]")
      ->group("Worker");
}

void describe_rest(CLI::App& app, Given& given) {
  app.add_option("--peer-window-bytes", given.peer_window_bytes,
                 "Bytes in flight towards one peer, all QPs together; no more than our own\n"
                 "receive buffer holds [524288]")
      ->group("Network");
  app.add_option("--receive-buffer-bytes", given.receive_buffer_bytes,
                 "Receive buffer to ask the kernel for, per socket [0: what the system gives]")
      ->group("Network");
  app.add_option("--read-chunk-bytes", given.read_chunk_bytes,
                 "Largest part of an RDMA READ asked for at once [65536]")
      ->group("Network");
  app.add_flag("--no-neighbours", given.no_neighbours,
               "Reach other engines of this machine over the network too, not through memory")
      ->group("Network");
  app.add_option("--neighbours-dir", given.neighbours_directory,
                 "Where engines of this machine find each other; containers need to share it\n"
                 "[`neighbours` in the runtime directory]")
      ->group("Network");
  app.add_option("--log-level", given.log_level, "debug, info, warn, error or off [info]")
      ->group("Log");
  app.add_option("--log-file", given.log_file,
                 "File to log to; 'auto': `log` in the engine's directory [standard error]")
      ->group("Log");
}

template <typename Value>
void take(const std::optional<Value>& given, Value& to) {
  if (given) to = *given;
}

Config merge(Config config, const Given& given) {
  take(given.engine_name, config.engine_name);
  if (!given.addresses.empty()) config.addresses = given.addresses;
  take(given.runtime_dir, config.runtime_dir);
  take(given.exit_when_idle_s, config.exit_when_idle_s);
  take(given.workers, config.workers);
  config.spin = config.spin || given.spin;
  take(given.cpu, config.cpu);
  take(given.idle_spin_us_max, config.idle_spin_us_max);
  take(given.idle_yield_us, config.idle_yield_us);
  take(given.peer_window_bytes, config.peer_window_bytes);
  take(given.receive_buffer_bytes, config.receive_buffer_bytes);
  take(given.read_chunk_bytes, config.read_chunk_bytes);
  config.neighbours = config.neighbours && !given.no_neighbours;
  take(given.neighbours_directory, config.neighbours_directory);
  take(given.log_level, config.log_level);
  take(given.log_file, config.log_file);
  return config;
}

constexpr const char* kFooter =
    "Examples:\n"
    "  flexinsd                                    serve all addresses of this host\n"
    "  flexinsd -e left -a 127.0.0.1               a second engine needs its own name and address\n"
    "  flexinsd -c /etc/flexins.toml --log-level debug\n"
    "\n"
    "SIGTERM ends it: running work gets up to 2 s to finish. A second signal ends it at once.\n"
    "Exit status: 0 stopped as asked, 1 could not start, 2 wrong option or configuration.";

}  // namespace

base::Result<Options> read_options(int argc, const char* const* argv) {
  CLI::App app("flexinsd: the engine of FlexiNS, software RDMA (RoCEv2).", "flexinsd");
  Given given;
  Options options;
  describe_engine(app, given);
  describe_worker(app, given);
  describe_rest(app, given);
  app.add_option("--ready-fd", options.ready_fd, "For flexins up")->group("");
  app.set_version_flag("--version", std::string("flexinsd ") + FLEXINS_VERSION);
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    options.exit_status = app.exit(error) == 0 ? 0 : 2;
    return options;
  }
  Config config;
  config.engine_name = protocol::engine_name();
  if (!given.config_file.empty()) {
    auto applied = apply_file(std::move(config), given.config_file);
    if (!applied) return applied.error();
    config = std::move(applied).value();
  }
  options.config = merge(std::move(config), given);
  if (auto checked = check_config(options.config); !checked) return checked.error();
  return options;
}

}  // namespace flexins::daemon
