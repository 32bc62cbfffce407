#include "sim/faults.h"

namespace flexins::sim {

namespace {

constexpr std::array<std::string_view, kFaultKinds> kNames = {
    "loss",         "burst",       "reorder", "duplicate",
    "corrupt",      "forged-icrc", "delay",   "flap",
    "partition",    "mtu",         "stall",   "death",
    "engine-death", "starvation",  "overrun", "hostile-packets",
    "hostile-rings"};

}  // namespace

std::string_view to_string(FaultKind kind) { return kNames[static_cast<size_t>(kind)]; }

bool parse_fault(std::string_view name, FaultKind& out) {
  for (size_t i = 0; i < kFaultKinds; ++i) {
    if (kNames[i] != name) continue;
    out = static_cast<FaultKind>(i);
    return true;
  }
  return false;
}

}  // namespace flexins::sim
