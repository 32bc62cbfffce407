#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "port/port.h"
#include "port/udp_receive.h"
#include "port/udp_transmit.h"

namespace flexins::port {

/// An iovec costs the kernel more than a short copy costs us. Trains over loopback without ICRC,
/// both ends, ns per packet copied/referenced (tests/port/port_bench): 256 B 190/300, 1 KiB
/// 320/400, 2 KiB 560/660, 4 KiB 1170/1030. From 2 KiB on the sender's cache is worth more than the
/// rest.
inline constexpr uint32_t kCopyPayloadBytes = 1024;

struct UdpPortConfig {
  /// Addresses to receive at and send from; at least one, each an address of this machine.
  std::vector<wire::IpAddress> addresses;
  /// SO_RCVBUF to ask for; 0: as much as the kernel allows, up to 4 MiB.
  uint64_t receive_buffer_bytes = 0;
  /// UDP source ports, hence flows for switches to spread, per address.
  uint32_t flows_per_address = 8;
  /// Receive buffers of 64 KiB: their sum should fit half of the core's L2 cache.
  uint32_t receive_buffers = 8;
  /// Off: no ICRC is computed or checked (its four bytes are zero). To measure what it costs; both
  /// ends must agree.
  bool icrc = true;
  /// Payloads of up to this many bytes are copied next to their header, larger ones gathered from
  /// where they lie. wire::kMaxMtuBytes: every payload is copied, as a stack without header-only
  /// transmission would.
  uint32_t copy_payload_bytes = kCopyPayloadBytes;
  /// Most packets handed to the kernel as one datagram; 0: as many as it takes.
  uint32_t segments_max = 0;
};

/// RoCEv2 over the kernel's UDP sockets; needs no privilege. Trains of equal packets leave as one
/// datagram that the kernel (or the NIC) cuts, and arrive joined where nobody cut them.
///
/// Payload is read once for the ICRC while an application may change it: a packet changed in that
/// instant arrives with a wrong ICRC, is dropped there and sent again.
class UdpPort final : public Port {
 public:
  /// EADDRINUSE (another engine has UDP port 4791 of that address), EADDRNOTAVAIL, EINVAL.
  static base::Result<std::unique_ptr<UdpPort>> open(const UdpPortConfig& config);

  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept override {
    return transmit_.transmit(burst, now);
  }
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept override {
    return receive_.receive(burst, now);
  }
  void observe_drops(DropObserver* observer) override;

  base::Result<void> join(const wire::IpAddress& group) override;
  void leave(const wire::IpAddress& group) override { receive_.remove(group); }
  [[nodiscard]] std::vector<int> poll_fds() const override { return receive_.poll_fds(); }
  [[nodiscard]] Capabilities capabilities() const override;
  [[nodiscard]] std::vector<Counter> counters() const override;
  [[nodiscard]] std::string_view name() const override { return "udp"; }

 private:
  UdpPort(UdpPortConfig config, UdpTransmit transmit, UdpReceive receive);

  UdpPortConfig config_;
  UdpTransmit transmit_;
  UdpReceive receive_;
};

}  // namespace flexins::port
