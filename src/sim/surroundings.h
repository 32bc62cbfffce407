#pragma once

#include "sim/event_queue.h"
#include "sim/fabric.h"
#include "sim/oracle.h"
#include "sim/scenario.h"
#include "sim/trace.h"

namespace flexins::sim {

/// What everything in a world shares.
struct Surroundings {
  const Scenario& scenario;
  EventQueue& events;
  Fabric& fabric;
  Oracle& oracle;
  Trace& trace;
  FaultCounts& faults;
};

}  // namespace flexins::sim
