#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "wire/icrc.h"
#include "wire/internet.h"
#include "wire/packet.h"

namespace flexins::sim {

class Link;

inline constexpr size_t kIcrcBytes = 4;
/// IP, UDP and Ethernet with preamble and gap: what a frame takes on a link beyond its transport
/// bytes.
inline constexpr uint32_t kOuterBytes = 20 + 8 + 14 + 4 + 20;

/// A packet on the wire: the bytes behind the UDP header, ICRC included, and what the outer headers
/// say.
struct Frame {
  wire::IpAddress source;
  wire::IpAddress destination;
  uint16_t source_port = 0;
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 0;
  uint32_t length = 0;
  uint16_t from_host = 0;
  uint16_t to_host = 0;
  Link* ingress = nullptr;  ///< came into the switch, where it is now, over this one
  std::array<std::byte, wire::kMaxHeaderBytes + wire::kMaxMtuBytes + 8> bytes;

  [[nodiscard]] std::span<std::byte> transport() { return {bytes.data(), length}; }
  [[nodiscard]] std::span<const std::byte> transport() const { return {bytes.data(), length}; }
  [[nodiscard]] uint32_t link_bytes() const { return length + kOuterBytes; }
  [[nodiscard]] wire::DatagramHeaders outer() const;
  /// Computes the ICRC anew and stores it in the last four bytes.
  void seal();
  /// Whether the ICRC fits.
  [[nodiscard]] bool intact() const;
};

/// Frames that are used again, the last one first.
class FramePool {
 public:
  [[nodiscard]] Frame* take();
  void give(Frame* frame) { free_.push_back(frame); }
  [[nodiscard]] size_t in_use() const { return all_.size() - free_.size(); }

 private:
  std::vector<std::unique_ptr<Frame>> all_;
  std::vector<Frame*> free_;
};

}  // namespace flexins::sim
