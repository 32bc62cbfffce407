#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "sim/world.h"

/// Whole runs: the oracle has nothing to say, and equal seeds are equal runs.

namespace flexins::sim {
namespace {

constexpr base::TimeNs kShortNs = 4 * base::kMillisecond;
constexpr uint64_t kFewOperations = 4'000;

Scenario scenario(uint64_t seed, Profile profile = Profile::kAny) {
  Scenario drawn = Scenario::draw(seed, profile, kShortNs);
  drawn.operations_max = kFewOperations;
  return drawn;
}

void expect_clean(const Scenario& wanted) {
  const Report report = simulate(wanted);
  if (!report.violation.has_value()) return;
  ADD_FAILURE() << "flexins sim " << wanted.options() << "\n"
                << report.violation->invariant << "\n"
                << report.violation->detail;
}

/// The trace hash of a seed, from a process of its own.
std::string hash_in_another_process(uint64_t seed) {
  const std::string command = "FLEXINS_SIM_PRINT=" + std::to_string(seed) + " /proc/" +
                              std::to_string(getpid()) +
                              "/exe --gtest_filter=World.PrintsTheHashThatItIsAskedFor";
  FILE* output = popen(command.c_str(), "r");
  EXPECT_NE(output, nullptr);
  std::string hash;
  char line[256];
  while (output != nullptr && std::fgets(line, sizeof line, output) != nullptr) {
    if (std::string_view(line).starts_with("hash ")) hash = line + 5;
  }
  if (output != nullptr) pclose(output);
  return hash;
}

TEST(World, PrintsTheHashThatItIsAskedFor) {
  const char* seed = std::getenv("FLEXINS_SIM_PRINT");
  if (seed == nullptr) GTEST_SKIP() << "for the test below";
  std::printf("hash %016lx\n", simulate(scenario(std::strtoull(seed, nullptr, 10))).trace_hash);
}

TEST(World, ASeedIsTheSameRunInAnyProcess) {
  for (const uint64_t seed : {3, 15, 38, 51}) {
    const uint64_t here = simulate(scenario(seed)).trace_hash;
    EXPECT_EQ(here, simulate(scenario(seed)).trace_hash);
    char text[32];
    std::snprintf(text, sizeof text, "%016lx\n", here);
    EXPECT_EQ(hash_in_another_process(seed), text) << seed;
    EXPECT_EQ(hash_in_another_process(seed), text) << seed;
  }
}

TEST(World, SeedsDiffer) {
  EXPECT_NE(simulate(scenario(1)).trace_hash, simulate(scenario(2)).trace_hash);
}

TEST(World, WorkIsDoneAndFaultsHappen) {
  Report all;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const Report report = simulate(scenario(seed));
    all.work.sends += report.work.sends;
    all.work.receives += report.work.receives;
    for (size_t i = 0; i < kFaultKinds; ++i) all.faults.done[i] += report.faults.done[i];
  }
  EXPECT_GT(all.work.sends, 1000u);
  EXPECT_GT(all.work.receives, 100u);
  EXPECT_GT(all.faults.total(), 100u);
}

TEST(World, NothingIsLostOfFreshSeeds) {
  const char* count = std::getenv("FLEXINS_SEEDS");
  const int seeds = count != nullptr ? std::atoi(count) : 50;
  constexpr Profile kProfiles[] = {Profile::kAny, Profile::kLossy, Profile::kDatacenter,
                                   Profile::kHostile, Profile::kChurn};
  base::SystemRandom random;
  for (int i = 0; i < seeds && !HasFailure(); ++i) {
    const Scenario fresh = scenario(random.next() >> 16, kProfiles[i % 5]);
    std::printf("flexins sim %s\n", fresh.options().c_str());
    std::fflush(stdout);
    expect_clean(fresh);
  }
}

TEST(World, NothingIsLostOfSeedsThatOnceShowedSomething) {
  std::ifstream list(FLEXINS_SEED_LIST);
  ASSERT_TRUE(list.is_open());
  for (std::string line; std::getline(list, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    uint64_t seed = 0;
    uint64_t microseconds = 0;
    uint64_t operations = 0;
    std::string name;
    ASSERT_TRUE(words >> seed >> name >> microseconds >> operations) << line;
    Profile profile;
    ASSERT_TRUE(parse_profile(name, profile)) << line;
    Scenario again = Scenario::draw(seed, profile, microseconds * base::kMicrosecond);
    again.operations_max = operations;
    expect_clean(again);
  }
}

TEST(World, OptionsNameTheScenario) {
  Scenario changed = scenario(7);
  changed.hosts = 9;
  changed.faults[FaultKind::kStall] = 0;
  EXPECT_TRUE(changed.options().starts_with("--seed 7 --duration 4000us --hosts 9"));
}

}  // namespace
}  // namespace flexins::sim
