#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "daemon/status_json.h"
#include "engine/engine.h"
#include "port/capture_port.h"
#include "port/fault_port.h"
#include "port/local_port.h"
#include "port/packet_port.h"
#include "port/shm_port.h"
#include "port/udp_port.h"

namespace flexins::daemon {

/// The ports of an engine, each under a fault injector and a capture that do nothing until told.
/// Once the worker runs, all but poll_fds() is for calls on the worker thread.
class PortStack {
 public:
  /// Errors: as port::UdpPort::open.
  static base::Result<std::unique_ptr<PortStack>> open(
      const std::vector<engine::LocalAddress>& addresses, uint64_t receive_buffer_bytes);

  [[nodiscard]] port::Port* local() { return &local_.capture; }
  [[nodiscard]] port::Port* network() { return &network_.capture; }
  /// Of the interface that holds the first address.
  [[nodiscard]] port::Port* raw() { return &packet_; }

  /// Ways to other engines of this machine, in front of the network.
  [[nodiscard]] port::ShmPort& neighbours() { return shm_; }

  [[nodiscard]] std::vector<int> poll_fds() const;
  [[nodiscard]] std::vector<PortRow> report() const;

  base::Result<void> set_faults(const port::FaultConfig& config);
  [[nodiscard]] const port::FaultConfig& faults() const { return network_.faults.config(); }

  /// Of what goes over the network; errors as port::CapturePort.
  base::Result<void> start_capture(const std::string& file) { return network_.capture.start(file); }
  base::Result<void> stop_capture() { return network_.capture.stop(); }

 private:
  /// Wrapped from the inside out.
  struct Wrapped {
    explicit Wrapped(port::Port& inner) : faults(inner), capture(faults) {}
    port::FaultPort faults;
    port::CapturePort capture;
  };

  PortStack(std::unique_ptr<port::UdpPort> udp, const std::string& interface)
      : udp_(std::move(udp)),
        shm_(*udp_),
        packet_(interface),
        local_(local_port_),
        network_(shm_) {}

  port::LocalPort local_port_;
  std::unique_ptr<port::UdpPort> udp_;
  port::ShmPort shm_;
  port::PacketPort packet_;
  Wrapped local_;
  Wrapped network_;
};

}  // namespace flexins::daemon
