#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"
#include "sim/faults.h"
#include "sim/link.h"

namespace flexins::sim {

/// What a run leans to; kAny draws from all.
enum class Profile : uint8_t { kAny, kLossy, kDatacenter, kHostile, kChurn };

/// False when there is no such profile.
[[nodiscard]] bool parse_profile(std::string_view name, Profile& out);

enum class Topology : uint8_t {
  kOneSwitch,
  kLeafSpine,  ///< two leaves, several spines between them: equal-cost paths
};

/// All that a run is made from. Equal scenarios are equal runs.
struct Scenario {
  uint64_t seed = 0;
  Profile profile = Profile::kAny;
  base::TimeNs duration_ns = 0;  ///< of the part with faults and new work
  uint64_t operations_max = UINT64_MAX;

  uint32_t hosts = 2;
  uint32_t applications = 1;  ///< per host
  uint32_t connections = 4;
  base::TimeNs think_ns = 20'000;  ///< between two bursts of work of a connection, at most
  Topology topology = Topology::kOneSwitch;
  uint32_t spines = 2;
  bool lossless = false;      ///< PFC
  bool mostly_large = false;  ///< long messages, path MTU 4096
  LinkSettings link;
  FaultPlan faults;

  /// Everything but the seed and the length drawn from the seed.
  static Scenario draw(uint64_t seed, Profile profile, base::TimeNs duration_ns);
  /// The options of `flexins sim` that give this scenario again.
  [[nodiscard]] std::string options() const;
};

[[nodiscard]] std::string_view to_string(Profile profile);

}  // namespace flexins::sim
