#include "sim/frame.h"

#include <cstring>

#include "wire/headers.h"

namespace flexins::sim {

namespace {

constexpr size_t kBthBytes = 12;

wire::OuterHeaders icrc_headers(const Frame& frame) {
  wire::OuterHeaders outer;
  outer.source = frame.source;
  outer.destination = frame.destination;
  outer.source_port = frame.source_port;
  outer.transport_bytes = static_cast<uint16_t>(frame.length);
  return outer;
}

uint32_t icrc_of(const Frame& frame) {
  const auto covered = frame.transport().first(frame.length - kIcrcBytes);
  const uint32_t running = wire::icrc_begin(icrc_headers(frame), covered.first(kBthBytes));
  return wire::icrc_finish(wire::icrc_add(running, covered.subspan(kBthBytes)));
}

}  // namespace

wire::DatagramHeaders Frame::outer() const {
  wire::DatagramHeaders headers;
  headers.source = source;
  headers.destination = destination;
  headers.traffic_class = traffic_class;
  headers.hop_limit = hop_limit;
  headers.source_port = source_port;
  headers.payload_bytes = static_cast<uint16_t>(length);
  return headers;
}

void Frame::seal() {
  const uint32_t icrc = icrc_of(*this);
  for (size_t i = 0; i < kIcrcBytes; ++i) {
    bytes[length - kIcrcBytes + i] = static_cast<std::byte>(icrc >> (8 * i));
  }
}

bool Frame::intact() const {
  if (length < kBthBytes + kIcrcBytes) return false;
  const uint32_t icrc = icrc_of(*this);
  for (size_t i = 0; i < kIcrcBytes; ++i) {
    if (bytes[length - kIcrcBytes + i] != static_cast<std::byte>(icrc >> (8 * i))) return false;
  }
  return true;
}

Frame* FramePool::take() {
  if (free_.empty()) {
    all_.push_back(std::make_unique<Frame>());
    return all_.back().get();
  }
  Frame* frame = free_.back();
  free_.pop_back();
  return frame;
}

}  // namespace flexins::sim
