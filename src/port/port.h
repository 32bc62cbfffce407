#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "wire/packet.h"

namespace flexins::port {

/// A named count, for `flexins status` and metrics.
struct Counter {
  std::string_view name;
  uint64_t value = 0;
};

/// What a port can do and hold.
struct Capabilities {
  uint32_t max_transport_bytes = 0;  ///< largest BTH + … + payload + pad + ICRC that a frame holds
  uint64_t receive_buffer_bytes = 0;  ///< payload bytes that may wait unread without loss
};

/// Told of every packet that a port drops, for captures. Called from transmit and receive.
class DropObserver {
 public:
  virtual ~DropObserver() = default;
  /// `packet` and `reason` are valid during the call only.
  virtual void transmit_dropped(const wire::TxPacket& packet, std::string_view reason,
                                base::TimeNs now) noexcept = 0;
  /// `packet.bytes` is all that came behind the UDP header: the ICRC, if there was one, is not cut.
  virtual void receive_dropped(const wire::RxPacket& packet, std::string_view reason,
                               base::TimeNs now) noexcept = 0;
};

/// Packets in and out, in bursts. One thread at a time.
class Port {
 public:
  virtual ~Port() = default;

  /// Sends `burst` in order. Returns how many were taken, from the front; the rest may be offered
  /// again later (the way out is full). A packet that can never be sent (no route, memory gone) is
  /// taken, dropped and counted.
  virtual size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept = 0;

  /// Fills up to burst.size() packets that were received and passed the port's checks; returns how
  /// many. They stay valid until the next receive. Malformed ones are counted by reason.
  virtual size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept = 0;

  /// A port that hears more than is meant for it receives only between listen() and
  /// stop_listening(). Control path. Errors: what the system says.
  virtual base::Result<void> listen() { return {}; }
  virtual void stop_listening() {}

  /// From now on receives packets to a multicast group. Control path. Errors: EOPNOTSUPP, EINVAL
  /// (no address of this IP version), or what the system says.
  virtual base::Result<void> join(const wire::IpAddress& group) {
    static_cast<void>(group);
    return base::Error{EOPNOTSUPP, "this port has no multicast"};
  }
  /// Ends what join() began.
  virtual void leave(const wire::IpAddress& group) { static_cast<void>(group); }

  /// The engine says that it dropped `packet`, an element of the burst that the last receive
  /// filled, and why (a string literal). Ports do nothing with it, captures note it.
  virtual void note_dropped(const wire::RxPacket& packet, std::string_view reason) noexcept {
    static_cast<void>(packet);
    static_cast<void>(reason);
  }
  /// Has `observer` (null: nobody) told of drops from now on; it outlives the port or its own
  /// replacement.
  virtual void observe_drops(DropObserver* observer) { static_cast<void>(observer); }

  /// Descriptors that become readable when receive may have something; empty where none is needed.
  [[nodiscard]] virtual std::vector<int> poll_fds() const { return {}; }
  /// When receive has something without any descriptor saying so (a delaying wrapper).
  [[nodiscard]] virtual base::TimeNs next_event() const { return base::kNever; }

  [[nodiscard]] virtual Capabilities capabilities() const = 0;
  [[nodiscard]] virtual std::vector<Counter> counters() const = 0;
  /// Short name of the kind: "local", "udp", …
  [[nodiscard]] virtual std::string_view name() const = 0;
};

}  // namespace flexins::port
