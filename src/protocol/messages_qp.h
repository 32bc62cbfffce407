#pragma once

#include "protocol/messages.h"

/// What can be said of a queue pair beyond its attributes.

namespace flexins::protocol {

/// Rates that a QP can be held to, in kbit/s; 0 is no limit.
inline constexpr uint32_t kLeastRateKbps = 1000;
inline constexpr uint32_t kMostRateKbps = 100'000'000;

/// From now on the QP sends no faster, its answers included. EINVAL: it is not in RTS, or the rate
/// is out of range. A move to kReset lifts it.
struct SetQpRateRequest {
  static constexpr MessageType kType = MessageType::kSetQpRate;
  MessageHeader header;
  uint32_t qpn;
  uint32_t rate_kbps;
  uint32_t burst_bytes;  ///< that may leave at once; 0: as the engine sees fit
  uint32_t reserved;
};

}  // namespace flexins::protocol
