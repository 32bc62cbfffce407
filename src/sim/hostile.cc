#include "sim/hostile.h"

#include <cstring>

#include "wire/headers.h"
#include "wire/mad.h"

namespace flexins::sim {

namespace {

constexpr size_t kBthBytes = 12;
constexpr size_t kQpnAt = 5;  ///< 3 bytes
constexpr size_t kPsnAt = 9;  ///< 3 bytes

uint32_t read_24(const Frame& frame, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 3; ++i) value = value << 8 | static_cast<uint32_t>(frame.bytes[at + i]);
  return value;
}

void write_24(Frame& frame, size_t at, uint32_t value) {
  for (size_t i = 3; i-- > 0; value >>= 8) frame.bytes[at + i] = static_cast<std::byte>(value);
}

}  // namespace

void HostilePackets::overhear(const Frame& frame) {
  if (heard_.size() < kHeard) {
    heard_.push_back(frame);
  } else if (random_.chance(0.01)) {
    random_.pick(heard_) = frame;
  }
}

void HostilePackets::make_noise(Frame& frame) {
  const auto from = static_cast<uint32_t>(random_.below(fabric_.hosts()));
  const auto to = static_cast<uint32_t>(random_.below(fabric_.hosts()));
  const bool v6 = random_.chance(0.3);
  frame.source = Fabric::address(from, v6);
  frame.destination = Fabric::address(to, v6);
  frame.source_port = static_cast<uint16_t>(random_.next());
  frame.traffic_class = static_cast<uint8_t>(random_.next());
  frame.hop_limit = 1;
  frame.length = static_cast<uint32_t>(kBthBytes + kIcrcBytes + random_.below(400));
  for (uint32_t i = 0; i < frame.length; ++i)
    frame.bytes[i] = static_cast<std::byte>(random_.next());
  // The right version and partition, so that it comes further; some to the management QP.
  frame.bytes[1] &= std::byte{0xf0};
  frame.bytes[2] = frame.bytes[3] = std::byte{0xff};
  if (random_.chance(0.3)) {
    write_24(frame, kQpnAt, wire::kManagementQpn);
    if (random_.chance(0.5)) {
      frame.bytes[0] = static_cast<std::byte>(wire::Opcode::kUdSendOnly);
      frame.bytes[1] = std::byte{0};
      const uint32_t key = __builtin_bswap32(wire::kManagementQkey);
      std::memcpy(frame.bytes.data() + kBthBytes, &key, sizeof key);
      frame.length = kBthBytes + 8 + wire::kMadBytes + kIcrcBytes;
    }
  }
}

/// A packet that was really sent, with one thing wrong that must be seen.
bool HostilePackets::forge(Frame& frame) {
  if (heard_.empty()) return false;
  frame = random_.pick(heard_);
  const auto transport = wire::transport_class(static_cast<wire::Opcode>(frame.bytes[0]));
  if (transport == wire::TransportClass::kDatagram) {
    // Another Q_Key.
    frame.bytes[kBthBytes + random_.below(4)] ^= std::byte{0x10};
    return true;
  }
  if (random_.chance(0.3)) {
    // Another source than the peer.
    const bool v6 = !frame.source.is_v4();
    const uint32_t away = fabric_.host_of(frame.source);
    frame.source = Fabric::address((away + 1) % fabric_.hosts(), v6);
    return frame.source != frame.destination && fabric_.hosts() > 2;
  }
  if (random_.chance(0.3)) {
    frame.bytes[2] ^= std::byte{0x40};  // another partition
    return true;
  }
  // A PSN a quarter of their space before or behind: not expected, not outstanding. What is behind
  // is a duplicate, which is answered but changes nothing; unreliable connections take any.
  if (transport != wire::TransportClass::kReliable) return false;
  const uint32_t away = random_.chance(0.5) ? 0x40'0000u : 0xc0'0000u;
  write_24(frame, kPsnAt, (read_24(frame, kPsnAt) + away) & 0xff'ffff);
  return true;
}

void HostilePackets::send() {
  Frame* frame = fabric_.pool().take();
  const bool made = random_.chance(0.5) && forge(*frame);
  if (!made) make_noise(*frame);
  frame->from_host = static_cast<uint16_t>(random_.below(fabric_.hosts()));
  frame->seal();
  fabric_.inject(frame);
}

}  // namespace flexins::sim
