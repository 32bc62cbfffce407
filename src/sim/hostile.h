#pragma once

#include "sim/fabric.h"

namespace flexins::sim {

/// Packets of somebody who is not the peer: noise, and true packets with something in them that a
/// receiver must refuse. They never are what a peer could have sent.
class HostilePackets {
 public:
  HostilePackets(Fabric& fabric, Random random) : fabric_(fabric), random_(random) {}

  /// Remembers a frame now and then, to forge from it.
  void overhear(const Frame& frame);
  /// Sends one.
  void send();

 private:
  void make_noise(Frame& frame);
  [[nodiscard]] bool forge(Frame& frame);

  static constexpr size_t kHeard = 16;
  Fabric& fabric_;
  Random random_;
  std::vector<Frame> heard_;
};

}  // namespace flexins::sim
