#include "port/local_port.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "port/limits.h"

namespace flexins::port {

namespace {

/// The BTH's last word: AckReq and PSN, different for every packet of a QP.
uint32_t psn_word_of(const wire::TxPacket& packet) {
  uint32_t word = 0;
  if (packet.header_length >= kBthBytes) {
    std::memcpy(&word, packet.header.data() + kBthBytes - sizeof word, sizeof word);
  }
  return word;
}

}  // namespace

LocalPort::LocalPort(uint32_t depth) : queue_(new Entry[depth]), depth_(depth) {
  FLEXINS_CHECK(depth > 0);
}

size_t LocalPort::transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept {
  size_t taken = 0;
  for (const wire::TxPacket& packet : burst) {
    if (packet.corrupt) {
      ++icrc_wrong_;
      if (observer_ != nullptr) observer_->transmit_dropped(packet, "icrc wrong", now);
      ++taken;
      continue;
    }
    if (count_ == depth_) break;
    uint32_t slot = first_ + count_;
    if (slot >= depth_) slot -= depth_;
    queue_[slot] = {&packet, packet.path, packet.payload_length, psn_word_of(packet)};
    ++count_;
    ++taken;
  }
  return taken;
}

size_t LocalPort::receive(std::span<wire::RxPacket> burst, base::TimeNs /*now*/) noexcept {
  const size_t n = std::min<size_t>(burst.size(), count_);
  for (size_t i = 0; i < n; ++i) {
    const Entry& entry = queue_[first_];
    const wire::TxPacket& packet = *entry.packet;
    FLEXINS_CHECK(packet.path == entry.path && packet.payload_length == entry.payload_length &&
                  psn_word_of(packet) == entry.psn_word);
    burst[i] = {.bytes = packet.header.data(),
                .length = packet.header_length,
                .pieces = packet.pieces.data(),
                .piece_count = packet.piece_count,
                .source = packet.path->source,
                .destination = packet.path->destination,
                .source_port = packet.path->source_port,
                .traffic_class = packet.path->traffic_class,
                .hop_limit = packet.path->hop_limit};
    bytes_ += packet.header_length + packet.payload_length;
    if (++first_ == depth_) first_ = 0;
  }
  count_ -= static_cast<uint32_t>(n);
  packets_ += n;
  return n;
}

Capabilities LocalPort::capabilities() const {
  return {.max_transport_bytes = kMaxTransportBytes,
          .receive_buffer_bytes = uint64_t{depth_} * wire::kMaxMtuBytes};
}

std::vector<Counter> LocalPort::counters() const {
  return {{"packets", packets_}, {"bytes", bytes_}, {"icrc_wrong", icrc_wrong_}};
}

}  // namespace flexins::port
