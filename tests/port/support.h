#pragma once

#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/byte_order.h"
#include "port/port.h"
#include "port/udp_port.h"
#include "port/udp_socket.h"

/// Packets to send and a receiver that remembers what came.

namespace flexins::port::testing {

/// Loopback addresses that no other test process has: number 0 … 3 of this process.
inline wire::IpAddress loopback(unsigned number) {
  const auto pid = static_cast<uint32_t>(getpid());
  const uint8_t octets[4] = {127, static_cast<uint8_t>(16 + (pid >> 14) % 200),
                             static_cast<uint8_t>(pid >> 6),
                             static_cast<uint8_t>((pid & 63) * 4 + number)};
  return wire::IpAddress::from_v4(octets);
}

inline wire::IpAddress loopback_v6() {
  const uint8_t octets[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return wire::IpAddress::from_v6(octets);
}

inline std::byte pattern(uint32_t psn, size_t offset) {
  return static_cast<std::byte>(psn * 131 + offset * 7 + (offset >> 8));
}

/// A burst of packets and the memory that they name.
class Burst {
 public:
  explicit Burst(const wire::Path& path) : path_(path) { packets_.reserve(kMax); }

  /// Adds an RC SEND ONLY of `length` bytes, spread over `pieces` pieces.
  wire::TxPacket& add(uint32_t psn, uint32_t length, uint32_t pieces = 1) {
    auto& payload = payloads_.emplace_back(length);
    for (size_t i = 0; i < length; ++i) payload[i] = pattern(psn, i);
    wire::TxPacket& packet = packets_.emplace_back();
    packet.path = &path_;
    packet.pad_count = static_cast<uint8_t>((4 - length % 4) % 4);
    packet.header_length = 12;
    packet.header = {};
    packet.header[0] = std::byte{0x04};
    packet.header[1] = static_cast<std::byte>(packet.pad_count << 4);
    base::store_be<uint16_t>(&packet.header[2], 0xffff);
    base::store_be<uint32_t>(&packet.header[4], 0x11);
    base::store_be<uint32_t>(&packet.header[8], psn);
    packet.payload_length = length;
    uint32_t done = 0;
    for (uint32_t i = 0; i < pieces && length > 0; ++i) {
      const uint32_t part = i + 1 == pieces ? length - done : length / pieces;
      packet.pieces[packet.piece_count++] = {payload.data() + done, part};
      done += part;
    }
    return packet;
  }

  std::span<wire::TxPacket> span() { return packets_; }
  void clear() {
    packets_.clear();
    payloads_.clear();
  }

 private:
  static constexpr size_t kMax = 4096;
  wire::Path path_;
  std::vector<wire::TxPacket> packets_;
  std::deque<std::vector<std::byte>> payloads_;
};

/// A received packet, copied.
struct Arrived {
  uint32_t psn = 0;
  std::vector<std::byte> payload;  ///< pad is checked and cut
  wire::IpAddress source, destination;
  uint8_t traffic_class = 0;
  bool well_formed = false;

  [[nodiscard]] bool has_pattern(size_t length) const {
    if (!well_formed || payload.size() != length) return false;
    for (size_t i = 0; i < length; ++i) {
      if (payload[i] != pattern(psn, i)) return false;
    }
    return true;
  }
};

inline Arrived copy(const wire::RxPacket& packet) {
  Arrived arrived;
  arrived.source = packet.source;
  arrived.destination = packet.destination;
  arrived.traffic_class = packet.traffic_class;
  if (packet.length < 12) return arrived;
  arrived.psn = base::load_be<uint32_t>(packet.bytes + 8) & 0xffffff;
  const auto pad = static_cast<uint32_t>(packet.bytes[1] >> 4 & std::byte{3});
  arrived.payload.assign(packet.bytes + 12, packet.bytes + packet.length);
  arrived.well_formed = true;
  if (packet.piece_count == 0) {
    if (arrived.payload.size() < pad) return Arrived{};
    for (uint32_t i = 0; i < pad; ++i) {
      arrived.well_formed &= arrived.payload.back() == std::byte{0};
      arrived.payload.pop_back();
    }
  }
  for (uint32_t i = 0; i < packet.piece_count; ++i) {
    const auto* from = static_cast<const std::byte*>(packet.pieces[i].iov_base);
    arrived.payload.insert(arrived.payload.end(), from, from + packet.pieces[i].iov_len);
  }
  return arrived;
}

/// Receives until `wanted` packets have come or none came for a while (which loss looks like).
inline std::vector<Arrived> receive_all(Port& port, size_t wanted, base::TimeNs now = 0) {
  using Clock = std::chrono::steady_clock;
  std::vector<Arrived> all;
  std::vector<wire::RxPacket> burst(64);
  auto give_up = Clock::now() + std::chrono::seconds(2);
  while (true) {
    const size_t n = port.receive(burst, now);
    for (size_t i = 0; i < n; ++i) all.push_back(copy(burst[i]));
    if (n > 0) continue;
    if (all.size() >= wanted || Clock::now() > give_up) return all;
    std::this_thread::yield();
  }
}

/// Sends all of `burst` and receives in between, as an engine does.
inline std::vector<Arrived> exchange(Port& from, Port& to, std::span<wire::TxPacket> burst,
                                     size_t wanted) {
  std::vector<Arrived> all;
  while (!burst.empty()) {
    const size_t taken = from.transmit(burst.first(std::min<size_t>(burst.size(), 64)), 0);
    burst = burst.subspan(taken);
    for (Arrived& one : receive_all(to, 0)) all.push_back(std::move(one));
  }
  if (all.size() < wanted) {
    for (Arrived& one : receive_all(to, wanted - all.size())) all.push_back(std::move(one));
  }
  return all;
}

inline uint64_t count(const Port& port, std::string_view name) {
  for (const Counter& counter : port.counters()) {
    if (counter.name == name) return counter.value;
  }
  return UINT64_MAX;
}

}  // namespace flexins::port::testing
