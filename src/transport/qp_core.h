#pragma once

#include <cstdint>

#include "transport/interfaces.h"
#include "transport/qp.h"

namespace flexins::transport {

/// After which memory that did not answer is tried again. Whoever waits for it is no busier than
/// after an RNR NAK of middling length.
inline constexpr base::TimeNs kMemoryWait = base::kMillisecond;

/// What requester and responder of one QP share.
struct QpCore {
  QpConfig config;
  /// Of the packets of a connected QP.
  wire::TransportClass transport = wire::TransportClass::kReliable;
  base::QpAttributes attributes;
  base::QpState state = base::QpState::kReset;
  const wire::Path* path = nullptr;
  PeerWindow* peer = nullptr;
  uint32_t mtu_bytes = 256;
  /// Set by either half when the QP has to move to kError. The QP does so before its call returns,
  /// so neither half is changed from under its own feet.
  bool failed = false;
  /// Memory did not answer (memory::AccessResult::kLater): nothing is sent before this.
  base::TimeNs memory_deadline = base::kNever;
  QpCounters counters;

  /// Tries again in a while what could not be read for a packet to send.
  void await_memory(base::TimeNs now) noexcept { memory_deadline = now + kMemoryWait; }

  void raise(base::AsyncEvent event) noexcept {
    config.observer->on_async_event(config.qpn, event);
  }
  [[nodiscard]] uint32_t packets_of(uint64_t bytes) const noexcept {
    return bytes == 0 ? 1 : static_cast<uint32_t>((bytes + mtu_bytes - 1) / mtu_bytes);
  }
};

}  // namespace flexins::transport
