#include "sim/network_port.h"

#include <cstring>

namespace flexins::sim {

namespace {

/// What a kernel charges a socket for a datagram beyond its bytes.
constexpr uint32_t kBufferOverheadBytes = 768;

uint32_t charge(const Frame& frame) { return frame.length + kBufferOverheadBytes; }

void fill(Frame& frame, const wire::TxPacket& packet) {
  frame.source = packet.path->source;
  frame.destination = packet.path->destination;
  frame.source_port = packet.path->source_port;
  frame.traffic_class = packet.path->traffic_class;
  frame.hop_limit = packet.path->hop_limit;
  std::byte* to = frame.bytes.data();
  std::memcpy(to, packet.header.data(), packet.header_length);
  to = wire::copy_pieces(wire::pieces_of(packet), to + packet.header_length);
  std::memset(to, 0, packet.pad_count);
  to += packet.pad_count + kIcrcBytes;
  frame.length = static_cast<uint32_t>(to - frame.bytes.data());
  frame.seal();
}

}  // namespace

size_t NetworkPort::transmit(std::span<wire::TxPacket> burst, base::TimeNs) noexcept {
  size_t taken = 0;
  for (const wire::TxPacket& packet : burst) {
    const uint32_t bytes = packet.header_length + packet.payload_length + packet.pad_count;
    if (!fabric_.has_room(host_, bytes + kIcrcBytes + kOuterBytes)) break;
    Frame* frame = fabric_.pool().take();
    fill(*frame, packet);
    frame->from_host = static_cast<uint16_t>(host_);
    fabric_.send(frame);
    ++taken;
  }
  return taken;
}

void NetworkPort::arrive(Frame* frame, Link&, base::TimeNs now) {
  if (deaf_) return fabric_.lose(frame, "no engine");
  if (inbox_bytes_ + charge(*frame) > buffer_bytes_) {
    ++buffer_drops_;
    return fabric_.lose(frame, "receive buffer full");
  }
  inbox_bytes_ += charge(*frame);
  inbox_.push_back(frame);
  fabric_.deliver(*frame, now);
  listener_.on_arrival();
}

void NetworkPort::give_back() {
  for (Frame* frame : held_) fabric_.pool().give(frame);
  held_.clear();
}

size_t NetworkPort::receive(std::span<wire::RxPacket> burst, base::TimeNs) noexcept {
  give_back();
  size_t count = 0;
  while (!inbox_.empty() && count < burst.size()) {
    Frame* frame = inbox_.front();
    inbox_.pop_front();
    inbox_bytes_ -= charge(*frame);
    if (!frame->intact()) {
      ++icrc_wrong_;
      fabric_.pool().give(frame);
      continue;
    }
    held_.push_back(frame);
    burst[count] = wire::RxPacket{};
    burst[count].bytes = frame->bytes.data();
    burst[count].length = frame->length - static_cast<uint32_t>(kIcrcBytes);
    burst[count].source = frame->source;
    burst[count].destination = frame->destination;
    burst[count].source_port = frame->source_port;
    burst[count].traffic_class = frame->traffic_class;
    burst[count].hop_limit = frame->hop_limit;
    ++count;
  }
  return count;
}

void NetworkPort::set_deaf(bool deaf) {
  deaf_ = deaf;
  give_back();
  for (Frame* frame : inbox_) fabric_.lose(frame, "no engine");
  inbox_.clear();
  inbox_bytes_ = 0;
}

port::Capabilities NetworkPort::capabilities() const {
  return {wire::kMaxHeaderBytes + wire::kMaxMtuBytes, buffer_bytes_ / 2};
}

std::vector<port::Counter> NetworkPort::counters() const {
  return {{"socket_drops", buffer_drops_}, {"icrc_wrong", icrc_wrong_}};
}

}  // namespace flexins::sim
