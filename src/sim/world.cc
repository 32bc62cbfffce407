#include "sim/world.h"

#include <cstring>

namespace flexins::sim {

namespace {

/// Within this, once faults have stopped, all work is done.
constexpr base::TimeNs kLivenessNs = 20 * base::kSecond;
/// How long a connection manager may remember a connection that is over.
constexpr base::TimeNs kForgetNs = 600 * base::kSecond;

constexpr FaultKind kTimed[] = {
    FaultKind::kDelay,       FaultKind::kFlap,           FaultKind::kPartition,
    FaultKind::kMtu,         FaultKind::kStall,          FaultKind::kDeath,
    FaultKind::kEngineDeath, FaultKind::kHostilePackets, FaultKind::kHostileRings};
/// Events of the world that are no faults: an application, or an engine, comes back.
constexpr uint64_t kRebirth = 1 << 8;
constexpr uint64_t kRestart = 1 << 16;

}  // namespace

World::World(const Scenario& scenario, FrameFile* file)
    : scenario_(scenario),
      fabric_(events_, scenario_, faults_, trace_, file),
      oracle_(events_, fabric_, trace_),
      around_{scenario_, events_, fabric_, oracle_, trace_, faults_},
      hostile_(fabric_, Random(scenario.seed).fork("hostile")) {
  const Random root(scenario.seed);
  for (size_t i = 0; i < kFaultKinds; ++i) {
    random_.push_back(root.fork(to_string(static_cast<FaultKind>(i))).fork("world"));
  }
  pace_.operations_max = scenario.operations_max;
  if (scenario_.faults[FaultKind::kHostilePackets] > 0) fabric_.tap(&hostile_);
  for (uint32_t i = 0; i < scenario_.hosts; ++i) {
    hosts_.push_back(
        std::make_unique<Host>(around_, i, scenario_.applications, *this, root.fork("host", i)));
  }
  for (uint32_t i = 0; i < scenario_.connections; ++i) {
    Random random = root.fork("connection", i);
    Application& a = any_application(random);
    Application& b = any_application(random);
    connections_.push_back(
        std::make_unique<Connection>(around_, pace_, a, b, i, random.fork("work")));
  }
  for (const FaultKind kind : kTimed) schedule_fault(kind);
}

World::~World() = default;

Application& World::any_application(Random& random) {
  return *random.pick(random.pick(hosts_)->applications());
}

void World::schedule_fault(FaultKind kind) {
  const double rate = scenario_.faults[kind];
  if (rate <= 0) return;
  const auto mean = static_cast<uint64_t>(static_cast<double>(base::kSecond) / rate);
  const uint64_t wait = random_[static_cast<size_t>(kind)].between(1, 2 * mean);
  events_.after(wait, *this, static_cast<uint64_t>(kind));
}

void World::on_event(uint64_t what, base::TimeNs) {
  if (what >= kRestart) return hosts_[what - kRestart]->restart();
  if (what >= kRebirth) {
    const uint64_t number = what - kRebirth;
    Host& host = *hosts_[number / scenario_.applications];
    Application& application = *host.applications()[number % scenario_.applications];
    if (host.alive() && !application.alive()) application.start();
    return;
  }
  if (healed_) return;
  const auto kind = static_cast<FaultKind>(what);
  strike(kind);
  schedule_fault(kind);
}

void World::strike(FaultKind kind) {
  Random& random = random_[static_cast<size_t>(kind)];
  const auto lasts = [&] {
    return random.spread(base::kMicrosecond * 50, scenario_.faults.duration_ns);
  };
  switch (kind) {
    case FaultKind::kStall: any_application(random).stall(events_.now() + lasts()); break;
    case FaultKind::kDeath: {
      const uint64_t number = random.below(uint64_t{scenario_.hosts} * scenario_.applications);
      Host& host = *hosts_[number / scenario_.applications];
      if (!host.alive()) return;
      host.applications()[number % scenario_.applications]->die(false);
      events_.after(lasts(), *this, kRebirth + number);
      break;
    }
    case FaultKind::kEngineDeath: {
      const uint64_t number = random.below(scenario_.hosts);
      hosts_[number]->crash();
      events_.after(lasts(), *this, kRestart + number);
      break;
    }
    case FaultKind::kHostilePackets: hostile_.send(); break;
    case FaultKind::kHostileRings: {
      Application& application = any_application(random);
      if (application.alive()) application.post_garbage(random);
      break;
    }
    default: return fabric_.strike(kind);
  }
  ++faults_[kind];
  trace_.note(static_cast<uint64_t>(kind) + 1, events_.now());
}

void World::on_cm_event(Host& host, const cm::Event& event) {
  if (event.kind == cm::EventKind::kRequest) {
    uint32_t number = UINT32_MAX;
    const auto& request = std::get<wire::CmReq>(event.body);
    std::memcpy(&number, request.private_data.data(), sizeof number);
    if (number < connections_.size()) return connections_[number]->on_cm_event(host, event);
    host.manager().request_taken(event.listener);
    static_cast<void>(host.manager().reject(event.connection, {}, events_.now()));
    return host.manager().release(event.connection, events_.now());
  }
  for (const auto& connection : connections_) {
    if (connection->knows(host, event.connection)) return connection->on_cm_event(host, event);
  }
}

void World::run_until(base::TimeNs end) {
  while (!oracle_.broken() && events_.next() <= end) events_.run_one();
  events_.advance(end);
}

void World::run_to_the_end() {
  pace_.active = false;
  healed_ = true;
  fabric_.heal();
  for (const auto& host : hosts_) {
    host->restart();
    for (const auto& application : host->applications()) application->stall(0);
  }
  const base::TimeNs begin = events_.now();
  const auto all_closed = [this] {
    for (const auto& connection : connections_) {
      if (!connection->closed()) return false;
    }
    return true;
  };
  while (!oracle_.broken() && !all_closed() && events_.next() <= begin + kLivenessNs) {
    events_.run_one();
  }
  for (const auto& connection : connections_) {
    if (connection->closed()) continue;
    oracle_.violate("liveness", nullptr, connection->describe());
  }
}

void World::give_all_back() {
  const base::TimeNs end = events_.now() + kForgetNs;
  const auto remembered = [this] {
    size_t count = 0;
    for (const auto& host : hosts_) count += host->manager().connections();
    return count;
  };
  while (!oracle_.broken() && events_.next() <= end && remembered() > 0) events_.run_one();
  if (remembered() > 0) {
    oracle_.violate("resources", nullptr, "a communication manager does not forget");
  }
  if (oracle_.broken()) return;
  oracle_.check_counters();
  for (const auto& host : hosts_) {
    for (const auto& application : host->applications()) application->stop();
    if (!host->engine().info().contexts.empty()) {
      oracle_.violate("resources", nullptr, "contexts are left in an engine");
    }
  }
}

Report World::run() {
  run_until(scenario_.duration_ns);
  if (!oracle_.broken()) run_to_the_end();
  if (!oracle_.broken()) give_all_back();
  return report();
}

Report World::report() {
  Report report;
  report.violation = oracle_.violation();
  report.trace_hash = trace_.hash();
  report.operations = pace_.operations;
  report.work = oracle_.counts();
  report.fabric = fabric_.counters();
  report.fabric.ecn_marked = fabric_.ecn_marked();
  report.faults = faults_;
  for (const auto& connection : connections_) report.connections += connection->opened();
  report.virtual_ns = events_.now();
  return report;
}

Report simulate(const Scenario& scenario, FrameFile* file) {
  return std::make_unique<World>(scenario, file)->run();
}

}  // namespace flexins::sim
