#include <algorithm>

#include "engine/engine_impl.h"
#include "wire/global_route.h"

namespace flexins::engine {

namespace {

constexpr uint16_t kDefaultPkey = 0x7fff;  // the membership bit aside
constexpr uint8_t kEcnMask = 0x03;
constexpr uint8_t kEcnCongestion = 0x03;
constexpr size_t kIcrcBytes = 4;

}  // namespace

bool EngineImpl::receive(port::Port& port, base::TimeNs now) {
  bool worked = false;
  for (size_t burst = 0; burst < kReceiveBurstsPerStep; ++burst) {
    const size_t count = port.receive(received_, now);
    from_network_ = &port == config_.network;
    for (size_t i = 0; i < count; ++i) deliver(received_[i], now);
    worked |= count > 0;
    if (count < received_.size()) break;
  }
  return worked;
}

bool EngineImpl::answer_for_departed(const wire::Headers& headers, const wire::IpAddress& source,
                                     base::TimeNs now) {
  const transport::Tombstone* rest = departed_.find(headers.bth.destination, now);
  if (rest == nullptr || config_.network == nullptr ||
      !transport::answer_repetition(*rest, headers, source, last_word_)) {
    return false;
  }
  ++counters_.departed_answers;
  // If the port is full it is lost, and the peer asks again.
  config_.network->transmit({&last_word_, 1}, now);
  return true;
}

void EngineImpl::deliver(const wire::RxPacket& packet, base::TimeNs now) {
  ++counters_.packets_received;
  uint32_t trailing = 0;
  for (uint32_t i = 0; i < packet.piece_count; ++i) {
    trailing += static_cast<uint32_t>(packet.pieces[i].iov_len);
  }
  wire::Headers headers;
  size_t header_length = 0;
  const auto parsed = wire::parse({packet.bytes, packet.length}, trailing, headers, header_length);
  if (parsed != wire::ParseError::kNone) {
    ++(parsed == wire::ParseError::kUnknownOpcode ? counters_.drop_unknown_opcode
                                                  : counters_.drop_malformed);
    return;
  }
  if ((headers.bth.pkey & kDefaultPkey) != kDefaultPkey) {
    ++counters_.drop_bad_pkey;
    return;
  }
  iovec contiguous;
  std::span<const iovec> payload{packet.pieces, packet.piece_count};
  uint32_t length = trailing;
  if (packet.piece_count == 0) {
    length = packet.length - static_cast<uint32_t>(header_length) - headers.bth.pad_count;
    contiguous = {const_cast<std::byte*>(packet.bytes) + header_length, length};
    payload = {&contiguous, 1};
  }
  if (packet.destination.is_multicast()) {
    if (headers.bth.destination == base::kMulticastQpn) {
      deliver_multicast(headers, packet, payload, length, now);
    } else {
      ++counters_.drop_unknown_qpn;
    }
    return;
  }
  if (headers.bth.destination.value == wire::kManagementQpn) {
    return deliver_management(packet, headers, header_length);
  }
  const auto found = qps_.find(headers.bth.destination.value);
  if (found == qps_.end()) {
    if (!answer_for_departed(headers, packet.source, now)) ++counters_.drop_unknown_qpn;
    return;
  }
  QueuePair& qp = *found->second;
  if (qp.is_raw() || qp.is_queue()) {
    // These take whole frames, by their flows; nobody sends to them by number.
    ++counters_.drop_unknown_qpn;
    return;
  }
  if (qp.is_datagram()) {
    deliver_datagram(qp, headers, packet, payload, length, now);
  } else {
    const bool congestion = (packet.traffic_class & kEcnMask) == kEcnCongestion;
    qp.transport->on_packet(headers, payload, length, packet.source, congestion, now);
  }
  after_activity(qp);
}

/// Datagrams are placed with the header that says where they came from in front.
void EngineImpl::deliver_datagram(QueuePair& qp, const wire::Headers& headers,
                                  const wire::RxPacket& packet, std::span<const iovec> payload,
                                  uint32_t length, base::TimeNs now) {
  std::array<std::byte, wire::kGlobalRouteBytes> route;
  const size_t datagram_bytes =
      wire::header_bytes(headers.bth.opcode) + length + headers.bth.pad_count + kIcrcBytes;
  wire::emit_global_route(packet, datagram_bytes, route);
  std::array<iovec, 1 + wire::kMaxPieces> pieces;
  pieces[0] = {route.data(), route.size()};
  std::copy(payload.begin(), payload.end(), pieces.begin() + 1);
  const bool congestion = (packet.traffic_class & kEcnMask) == kEcnCongestion;
  qp.transport->on_packet(headers, std::span(pieces).first(1 + payload.size()),
                          static_cast<uint32_t>(route.size()) + length, packet.source, congestion,
                          now);
}

}  // namespace flexins::engine
