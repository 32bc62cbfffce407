#include "sim/scenario.h"

#include <array>

#include "sim/random.h"

namespace flexins::sim {

namespace {

constexpr std::array<std::string_view, 5> kProfiles = {"any", "lossy", "datacenter", "hostile",
                                                       "churn"};

/// How likely a run of some profile has a kind of fault, and its range when it has.
struct Chance {
  FaultKind kind;
  double rate_min;
  double rate_max;
  std::array<double, 5> exists;  ///< by profile
};

constexpr std::array<Chance, kFaultKinds> kChances = {{
    {FaultKind::kLoss, 1e-4, 0.05, {0.4, 0.9, 0.0, 0.3, 0.3}},
    {FaultKind::kBurstLoss, 1e-5, 1e-3, {0.3, 0.6, 0.0, 0.2, 0.2}},
    {FaultKind::kReordering, 1e-4, 0.05, {0.4, 0.7, 0.1, 0.3, 0.2}},
    {FaultKind::kDuplication, 1e-4, 0.05, {0.4, 0.7, 0.0, 0.3, 0.2}},
    {FaultKind::kCorruption, 1e-4, 0.03, {0.3, 0.6, 0.1, 0.5, 0.1}},
    {FaultKind::kForgedIcrc, 1e-6, 1e-4, {0.2, 0.1, 0.0, 0.5, 0.1}},
    {FaultKind::kDelay, 5, 100, {0.3, 0.5, 0.2, 0.2, 0.2}},
    {FaultKind::kFlap, 5, 50, {0.3, 0.4, 0.3, 0.2, 0.3}},
    {FaultKind::kPartition, 5, 50, {0.3, 0.4, 0.1, 0.2, 0.3}},
    {FaultKind::kMtu, 5, 50, {0.2, 0.3, 0.1, 0.2, 0.1}},
    {FaultKind::kStall, 5, 100, {0.3, 0.2, 0.3, 0.3, 0.4}},
    {FaultKind::kDeath, 2, 30, {0.3, 0.1, 0.2, 0.2, 0.7}},
    {FaultKind::kEngineDeath, 1, 15, {0.2, 0.1, 0.1, 0.1, 0.5}},
    {FaultKind::kStarvation, 0.1, 1, {0.3, 0.3, 0.3, 0.2, 0.2}},
    {FaultKind::kOverrun, 0.1, 0.5, {0.2, 0.1, 0.1, 0.3, 0.2}},
    {FaultKind::kHostilePackets, 1000, 50'000, {0.3, 0.1, 0.0, 0.9, 0.2}},
    {FaultKind::kHostileRings, 50, 2000, {0.3, 0.1, 0.0, 0.9, 0.2}},
}};

void draw_faults(Scenario& scenario, Random random) {
  for (const Chance& chance : kChances) {
    const bool exists = random.chance(chance.exists[static_cast<size_t>(scenario.profile)]);
    const auto span = static_cast<uint64_t>(chance.rate_max / chance.rate_min);
    const double rate = chance.rate_min * static_cast<double>(random.spread(1, span));
    scenario.faults[chance.kind] = exists ? rate : 0;
  }
  scenario.faults.duration_ns = random.spread(base::kMillisecond / 10, base::kSecond / 2);
}

}  // namespace

std::string_view to_string(Profile profile) { return kProfiles[static_cast<size_t>(profile)]; }

bool parse_profile(std::string_view name, Profile& out) {
  for (size_t i = 0; i < kProfiles.size(); ++i) {
    if (kProfiles[i] != name) continue;
    out = static_cast<Profile>(i);
    return true;
  }
  return false;
}

Scenario Scenario::draw(uint64_t seed, Profile profile, base::TimeNs duration_ns) {
  Scenario scenario;
  scenario.seed = seed;
  scenario.profile = profile;
  scenario.duration_ns = duration_ns;
  Random random = Random(seed).fork("scenario");
  scenario.hosts = static_cast<uint32_t>(random.between(2, 5));
  scenario.applications = static_cast<uint32_t>(random.between(1, 3));
  scenario.connections = static_cast<uint32_t>(random.spread(2, 48));
  scenario.think_ns = random.spread(2'000, 2'000'000);
  scenario.topology = random.chance(0.5) ? Topology::kOneSwitch : Topology::kLeafSpine;
  scenario.spines = static_cast<uint32_t>(random.between(1, 4));
  scenario.lossless = random.chance(profile == Profile::kDatacenter ? 0.8 : 0.2);
  scenario.mostly_large = random.chance(profile == Profile::kDatacenter ? 0.8 : 0.2);
  constexpr uint64_t kGigabit = 1'000'000'000;
  scenario.link.bits_per_second = random.spread(10, 100) * kGigabit;
  scenario.link.delay_ns = random.spread(200, 20'000);
  scenario.link.queue_bytes = random.spread(64 * 1024, 1024 * 1024);
  scenario.link.ecn_bytes = random.chance(0.5) ? scenario.link.queue_bytes / 4 : 0;
  draw_faults(scenario, Random(seed).fork("faults"));
  return scenario;
}

std::string Scenario::options() const {
  std::string text = "--seed " + std::to_string(seed);
  if (profile != Profile::kAny) text += " --profile " + std::string(to_string(profile));
  text += " --duration " + std::to_string(duration_ns / base::kMicrosecond) + "us";
  const Scenario drawn = draw(seed, profile, duration_ns);
  if (hosts != drawn.hosts) text += " --hosts " + std::to_string(hosts);
  if (applications != drawn.applications) {
    text += " --applications " + std::to_string(applications);
  }
  if (connections != drawn.connections) text += " --connections " + std::to_string(connections);
  if (operations_max != UINT64_MAX) text += " --operations " + std::to_string(operations_max);
  for (size_t i = 0; i < kFaultKinds; ++i) {
    if (faults.rate[i] != 0 || drawn.faults.rate[i] == 0) continue;
    text += " --without " + std::string(to_string(static_cast<FaultKind>(i)));
  }
  return text;
}

}  // namespace flexins::sim
