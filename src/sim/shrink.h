#pragma once

#include <functional>

#include "sim/world.h"

namespace flexins::sim {

/// A smaller scenario that breaks the same invariant, and how.
struct Shrunk {
  Scenario scenario;
  Report report;
  uint32_t attempts = 0;
};

/// Takes away faults, connections, applications, hosts, operations and time from `scenario`, whose
/// run was `report`, as long as `keep_trying` says so and the same invariant breaks.
[[nodiscard]] Shrunk shrink(const Scenario& scenario, const Report& report,
                            const std::function<bool()>& keep_trying);

}  // namespace flexins::sim
