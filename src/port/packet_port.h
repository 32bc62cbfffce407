#pragma once

#include <sys/socket.h>

#include <array>
#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "port/port.h"

namespace flexins::port {

/// Raw Ethernet frames of one interface, through an AF_PACKET socket. A packet's pieces are the
/// whole frame. Listens only between listen() and stop_listening(), as it hears all that arrives;
/// listen() needs CAP_NET_RAW.
class PacketPort final : public Port {
 public:
  explicit PacketPort(std::string interface);

  /// EPERM without the privilege, ENODEV.
  base::Result<void> listen() override;
  void stop_listening() override;
  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept override;
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept override;
  /// One descriptor, whether it listens or not.
  [[nodiscard]] std::vector<int> poll_fds() const override { return {epoll_.get()}; }
  [[nodiscard]] Capabilities capabilities() const override;
  [[nodiscard]] std::vector<Counter> counters() const override;
  [[nodiscard]] std::string_view name() const override { return "packet"; }

 private:
  static constexpr size_t kBurst = 64;
  /// Frames of any jumbo MTU; what the kernel has joined beyond is dropped.
  static constexpr size_t kFrameBytes = 10240;

  std::string interface_;
  base::UniqueFd epoll_;
  base::UniqueFd fd_;
  std::unique_ptr<std::byte[]> memory_;
  std::array<mmsghdr, kBurst> headers_;
  std::array<iovec, kBurst> iovecs_;
  uint64_t tx_frames_ = 0;
  uint64_t tx_dropped_ = 0;
  uint64_t rx_frames_ = 0;
  uint64_t rx_too_long_ = 0;
};

}  // namespace flexins::port
