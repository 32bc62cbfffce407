#pragma once

#include <deque>

#include "port/port.h"
#include "sim/fabric.h"

namespace flexins::sim {

/// A host's network port: packets become frames with an ICRC, frames become packets when it fits.
class NetworkPort final : public port::Port, public Node {
 public:
  /// Told that there is something to receive.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_arrival() = 0;
  };
  NetworkPort(Fabric& fabric, uint32_t host, uint64_t buffer_bytes, Listener& listener)
      : fabric_(fabric), host_(host), buffer_bytes_(buffer_bytes), listener_(listener) {
    fabric.attach(host, *this);
  }

  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept override;
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept override;
  [[nodiscard]] port::Capabilities capabilities() const override;
  [[nodiscard]] std::vector<port::Counter> counters() const override;
  [[nodiscard]] std::string_view name() const override { return "sim"; }

  void arrive(Frame* frame, Link& over, base::TimeNs now) override;
  [[nodiscard]] bool waiting() const { return !inbox_.empty(); }
  /// The engine is gone: what comes is lost from now on, until it is back.
  void set_deaf(bool deaf);

 private:
  void give_back();

  Fabric& fabric_;
  uint32_t host_;
  uint64_t buffer_bytes_;
  Listener& listener_;
  std::deque<Frame*> inbox_;
  std::vector<Frame*> held_;  ///< handed out by the last receive
  uint64_t inbox_bytes_ = 0;
  bool deaf_ = false;
  uint64_t buffer_drops_ = 0;
  uint64_t icrc_wrong_ = 0;
};

}  // namespace flexins::sim
