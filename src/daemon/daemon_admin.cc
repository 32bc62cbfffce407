#include <unistd.h>

#include <cerrno>
#include <fstream>

#include <spdlog/spdlog.h>

#include "base/fault_guard.h"
#include "daemon/daemon.h"
#include "daemon/fault_json.h"

/// What the admin socket asks for.

namespace flexins::daemon {
namespace {

uint64_t resident_bytes() {
  uint64_t size = 0;
  uint64_t resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

bool any_faults(const port::FaultConfig& faults) {
  return faults.loss > 0 || faults.duplication > 0 || faults.reordering > 0 ||
         faults.corruption > 0 || faults.delay > 0;
}

}  // namespace

Daemon::Json Daemon::engine_facts() {
  Json facts = {{"name", config_.engine_name},
                {"pid", ::getpid()},
                {"version", FLEXINS_VERSION},
                {"directory", dir_.path()},
                {"uptime_s", (monotonic_now() - started_) / base::kSecond},
                {"rss_bytes", resident_bytes()},
                {"active_mtu_bytes", environment_.port.active_mtu_bytes},
                {"guarded_faults", base::guarded_fault_count()},
                {"neighbours", neighbours_.size()},
                {"draining", phase_ != Phase::kServing},
                {"addresses", Json::array()}};
  for (const engine::LocalAddress& local : addresses_) {
    facts["addresses"].push_back({{"address", gid_text(local.address.bytes)},
                                  {"interface", local.interface},
                                  {"mtu_bytes", local.mtu_bytes}});
  }
  if (!capture_file_.empty()) facts["capture"] = capture_file_;
  return facts;
}

Daemon::Json Daemon::status(std::optional<uid_t> viewer) {
  StatusInput input;
  input.engine = engine_facts();
  input.tenants = sessions_.tenants().all();
  sessions_.for_each([&](const Session& session) {
    if (!session.open()) return;
    input.sessions.push_back(
        {session.context(), session.peer(), session.program(), session.events_dropped()});
  });
  port::FaultConfig faults;
  worker_->call([&](engine::Engine& engine) {
    input.info = engine.info();
    input.ports = ports_->report();
    faults = ports_->faults();
  });
  if (any_faults(faults)) input.engine["faults"] = faults_to_json(faults);
  input.worker = worker_->counters();
  input.cm = cm_server_.counts();
  const auto cm_counters = cm_server_.counters();
  input.info.counters.insert(input.info.counters.end(), cm_counters.begin(), cm_counters.end());
  return status_json(input, viewer);
}

base::Result<Daemon::Json> Daemon::faults(const Json& set) {
  port::FaultConfig config = worker_->call([&](engine::Engine&) { return ports_->faults(); });
  if (set.is_null()) return faults_to_json(config);
  auto wanted = apply_faults(config, set);
  if (!wanted) return wanted.error();
  auto done = worker_->call([&](engine::Engine&) { return ports_->set_faults(*wanted); });
  if (!done) return done.error();
  Json now = faults_to_json(*wanted);
  spdlog::info("faults: {}", now.dump());
  return now;
}

base::Result<Daemon::Json> Daemon::start_capture(const std::string& file) {
  // Opening takes a moment, in which the worker stands still.
  auto started = worker_->call([&](engine::Engine&) { return ports_->start_capture(file); });
  if (!started) return started.error();
  capture_file_ = file;
  spdlog::info("capturing to {}", file);
  return Json{{"file", file}};
}

base::Result<Daemon::Json> Daemon::stop_capture() {
  auto stopped = worker_->call([&](engine::Engine&) { return ports_->stop_capture(); });
  if (!stopped) return stopped.error();
  Json answer = {{"file", capture_file_}};
  for (const PortRow& row : worker_->call([&](engine::Engine&) { return ports_->report(); })) {
    for (const port::Counter& counter : row.counters) {
      if (counter.name == "capture_packets" && counter.value > 0) answer["packets"] = counter.value;
      if (counter.name == "capture_missed" && counter.value > 0) answer["missed"] = counter.value;
    }
  }
  spdlog::info("capture ended: {}", answer.dump());
  capture_file_.clear();
  return answer;
}

void Daemon::stop() { begin_draining("the admin socket"); }

}  // namespace flexins::daemon
