#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/time.h"

namespace flexins::sim {

/// What can go wrong in a run.
enum class FaultKind : uint8_t {
  kLoss,            ///< packets, each for itself
  kBurstLoss,       ///< packets, many in a row
  kReordering,      ///< packets that wait until others have passed
  kDuplication,     ///< packets that come twice
  kCorruption,      ///< a bit of the packet; the ICRC tells
  kForgedIcrc,      ///< a bit of the transport header, and the ICRC fits it
  kDelay,           ///< a path that is slow for a while
  kFlap,            ///< a link that is down for a while
  kPartition,       ///< one host does not hear another for a while
  kMtu,             ///< a path that swallows large packets for a while
  kStall,           ///< an application that does nothing for a while
  kDeath,           ///< an application that ends without goodbye
  kEngineDeath,     ///< an engine that ends and starts anew, empty
  kStarvation,      ///< receives that are posted late
  kOverrun,         ///< a CQ that is too small
  kHostilePackets,  ///< random, and nearly valid
  kHostileRings,    ///< garbage in submission rings
};
inline constexpr size_t kFaultKinds = 17;

[[nodiscard]] std::string_view to_string(FaultKind kind);
/// False when there is no such kind.
[[nodiscard]] bool parse_fault(std::string_view name, FaultKind& out);

/// Of which faults there are any, and how hard. Unit: of packet faults, how likely each packet is
/// to have one; of the others, how many come in a second; of kStarvation and kOverrun, the part of
/// connections concerned. 0: none.
struct FaultPlan {
  std::array<double, kFaultKinds> rate{};
  base::TimeNs duration_ns = base::kMillisecond;  ///< longest of what lasts a while

  [[nodiscard]] double operator[](FaultKind kind) const { return rate[static_cast<size_t>(kind)]; }
  [[nodiscard]] double& operator[](FaultKind kind) { return rate[static_cast<size_t>(kind)]; }
};

/// How often each was done.
struct FaultCounts {
  std::array<uint64_t, kFaultKinds> done{};
  [[nodiscard]] uint64_t operator[](FaultKind kind) const {
    return done[static_cast<size_t>(kind)];
  }
  uint64_t& operator[](FaultKind kind) { return done[static_cast<size_t>(kind)]; }
  [[nodiscard]] uint64_t total() const {
    uint64_t sum = 0;
    for (const uint64_t count : done) sum += count;
    return sum;
  }
};

}  // namespace flexins::sim
