#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "base/ids.h"
#include "base/time.h"
#include "base/verbs_types.h"
#include "wire/packet.h"

/// What the transport needs from outside, as small interfaces. The engine implements them over the
/// pipe's rings; unit tests and the simulator with plain containers.

namespace flexins::transport {

/// A finished work request.
struct Completion {
  uint64_t wr_id = 0;
  base::WcStatus status = base::WcStatus::kSuccess;
  base::WcOpcode opcode = base::WcOpcode::kSend;
  uint32_t wc_flags = 0;     ///< base::WcFlags
  uint32_t byte_length = 0;  ///< receives, READ and atomics
  uint32_t immediate = 0;    ///< immediate data (network order, as on the wire) or invalidated key
  uint32_t vendor_error = 0;
  base::Qpn qpn;
  base::Qpn source_qpn;
  /// Send side: count (modulo 2^32) of send work requests that this completion and those before it
  /// retire, unsignalled ones included. Receive side: the same count for receives.
  uint32_t retired = 0;
  uint8_t service_level = 0;  ///< received datagrams: base::PacketKind
  bool is_send = false;
  bool solicited = false;  ///< receive with the solicited event bit, or any error
};

/// Where completions of a CQ go.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  virtual void complete(const Completion& completion) noexcept = 0;
};

/// A receive work request, copied and bounded (sge_count <= kMaxSge) but not yet checked by key.
struct ReceiveWqe {
  uint64_t wr_id = 0;
  uint32_t sge_count = 0;
  std::array<base::Sge, base::Limits::kMaxSge> sge;
};

/// Where receive work requests come from: a QP's own ring, or an SRQ. Read on demand.
class ReceiveSource {
 public:
  virtual ~ReceiveSource() = default;
  /// Takes the next receive work request. False when there is none.
  [[nodiscard]] virtual bool take(ReceiveWqe& out) noexcept = 0;
};

/// A receive queue with what belongs to it.
struct ReceiveQueue {
  ReceiveSource* source = nullptr;
  CompletionSink* completions = nullptr;
  base::PdId pd;  ///< of the keys in its receives, and of those that remote requests name
};

/// The SRQs of an XRC domain.
class ReceiveQueues {
 public:
  virtual ~ReceiveQueues() = default;
  /// False when the domain has no such SRQ (any more). What is found may be gone after the next
  /// control call.
  [[nodiscard]] virtual bool find(uint32_t srqn, ReceiveQueue& out) noexcept = 0;
};

/// Where an address handle leads: the way there, and how much one packet may carry on it.
struct DatagramTarget {
  wire::Path path;
  uint32_t mtu_bytes = 256;
};

/// A send work request as the application wrote it, already copied into private memory. The
/// transport checks opcode, keys and lengths; nothing in here is trusted.
struct SendWqe {
  uint64_t wr_id = 0;
  base::WrOpcode opcode = base::WrOpcode::kSend;
  uint8_t flags = 0;  ///< base::SendFlags
  uint8_t sge_count = 0;
  uint16_t inline_length = 0;  ///< with kSendInline: bytes at inline_data, sge_count is 0
  uint32_t immediate = 0;      ///< network order, or the key to invalidate
  uint64_t remote_address = 0;
  uint32_t remote_key = 0;
  uint32_t remote_srqn = 0;  ///< XRC only: the SRQ of the peer
  // Atomics: the operands. A bind: the window's length, and in `swap` the region's key with the
  // access flags in the upper half; remote_address is the window's address, remote_key the key that
  // it gets, `immediate` the key that it has.
  uint64_t compare_add = 0;
  uint64_t swap = 0;
  const base::Sge* sge = nullptr;
  const std::byte* inline_data = nullptr;
  // Datagrams only.
  const DatagramTarget* target = nullptr;  ///< null: the address handle does not exist
  uint32_t remote_qpn = 0;
  uint32_t remote_qkey = 0;
};

/// Bytes and packets allowed in flight towards one peer, shared by all QPs that talk to it, so that
/// they do not overrun its receive buffer (docs/architecture.md, "Trains"). It may be one of
/// several parts of a whole: then each part in use may fill the same share, so that who has many
/// QPs does not keep the others out.
struct PeerWindow {
  uint64_t limit_bytes = 128 * 1024;  ///< of a whole
  uint64_t in_flight_bytes = 0;
  PeerWindow* whole = nullptr;
  uint32_t parts_in_use = 0;               ///< of a whole
  uint64_t part_limit_bytes = UINT64_MAX;  ///< of a whole: limit_bytes / parts_in_use
  bool is_wanted = false;                  ///< a part that somebody waits for

  [[nodiscard]] bool admits(uint64_t bytes) const noexcept {
    if (whole == nullptr) return fits(bytes, limit_bytes);
    return fits(bytes, whole->part_limit_bytes) && whole->fits(bytes, whole->limit_bytes);
  }
  [[nodiscard]] bool fits(uint64_t bytes, uint64_t limit) const noexcept {
    return in_flight_bytes == 0 || in_flight_bytes + bytes <= limit;
  }
  /// What one user can have in flight at most.
  [[nodiscard]] uint64_t usable_bytes() const noexcept {
    return whole == nullptr ? limit_bytes : std::min(whole->part_limit_bytes, whole->limit_bytes);
  }
  void charge(uint64_t bytes) noexcept {
    if (whole != nullptr) {
      if (in_flight_bytes == 0 && !is_wanted) whole->count_parts(1);
      whole->in_flight_bytes += bytes;
    }
    in_flight_bytes += bytes;
  }
  void uncharge(uint64_t bytes) noexcept {
    in_flight_bytes -= bytes;
    if (whole == nullptr) return;
    whole->in_flight_bytes -= bytes;
    if (in_flight_bytes == 0 && bytes > 0 && !is_wanted) whole->count_parts(-1);
  }
  void set_wanted(bool wanted) noexcept {
    if (in_flight_bytes == 0 && wanted != is_wanted) whole->count_parts(wanted ? 1 : -1);
    is_wanted = wanted;
  }

 private:
  void count_parts(int32_t more) noexcept {
    parts_in_use += static_cast<uint32_t>(more);
    part_limit_bytes = limit_bytes / std::max(1u, parts_in_use);
  }
};

/// What happened to a QP that its owner must hear of.
class QpObserver {
 public:
  virtual ~QpObserver() = default;
  /// kQpFatal, kQpRequestError, kQpAccessError, kCommunicationEstablished, kSqDrained or
  /// kLastWqeReached.
  virtual void on_async_event(base::Qpn qpn, base::AsyncEvent event) noexcept = 0;
};

}  // namespace flexins::transport
