#include <algorithm>

#include "transport/requester.h"

/// Bytes in flight to a peer, and how often to ask for acknowledgement so that they leave it.

namespace flexins::transport {

namespace {

/// What a packet takes of the peer's receive buffer beyond its payload when it arrives alone: Linux
/// charges a socket for a datagram's whole buffer, 832 bytes even for the smallest.
constexpr uint64_t kPacketOverheadBytes = 768;
/// Small messages in a long chain: one acknowledgement for so many.
constexpr uint32_t kPacketsPerAck = 16;

}  // namespace

uint64_t Requester::cost(const SendEntry& entry, uint64_t from, uint64_t to) const noexcept {
  const uint64_t begin = (from - entry.first_psn) * core_.mtu_bytes;
  const uint64_t end = std::min<uint64_t>((to - entry.first_psn) * core_.mtu_bytes, entry.length);
  return end - begin + (to - from) * kPacketOverheadBytes;
}

bool Requester::window_admits(uint64_t bytes) const noexcept { return core_.peer->admits(bytes); }

void Requester::charge(uint64_t bytes) noexcept {
  in_flight_bytes_ += bytes;
  if (bytes > 0) core_.peer->charge(bytes);
}

void Requester::uncharge(uint64_t bytes) noexcept {
  in_flight_bytes_ -= bytes;
  if (core_.peer != nullptr) core_.peer->uncharge(bytes);
}

void Requester::change_peer(PeerWindow* peer) noexcept {
  const uint64_t bytes = in_flight_bytes_;
  release_window();
  core_.peer = peer;
  if (peer != nullptr && bytes > 0) charge(bytes);
}

/// No request behind the one at the cursor will send a packet.
bool Requester::is_last_to_send() const noexcept {
  uint32_t next = cursor_ + 1;
  while (next != queue_.tail() && queue_.at(next).is_local()) ++next;
  return next == queue_.tail();
}

bool Requester::wants_ack(const SendEntry& entry, const Segment& segment,
                          uint64_t bytes) const noexcept {
  if (entry.wants_response()) return true;
  const bool draining = core_.state != base::QpState::kReadyToSend;
  if (segment.last && (draining || is_last_to_send())) return true;
  if (segment.last && unasked_packets_ + 1 >= kPacketsPerAck) return true;
  const PeerWindow& peer = *core_.peer;
  if (unasked_bytes_ + bytes >= peer.usable_bytes() / 4) return true;
  // The packet after this one would not fit: nothing else would ask.
  return !peer.admits(bytes + core_.mtu_bytes + kPacketOverheadBytes);
}

}  // namespace flexins::transport
