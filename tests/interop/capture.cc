#include "capture.h"

#include <cstdio>
#include <optional>
#include <stdexcept>

#include "tests/wire/pcap.h"

namespace flexins::interop {
namespace {

constexpr size_t kIcrcBytes = 4;

Captured dissect(const wire::Frame& frame) {
  Captured packet;
  std::span<const std::byte> transport;
  if (wire::parse_datagram(std::span(frame).subspan(wire::kEthernetBytes), packet.outer,
                           transport) != wire::InternetError::kNone) {
    throw std::runtime_error("not a datagram");
  }
  size_t header_bytes = 0;
  const auto body = transport.first(transport.size() - kIcrcBytes);
  if (wire::parse(body, 0, packet.headers, header_bytes) != wire::ParseError::kNone) {
    throw std::runtime_error("not RoCE");
  }
  packet.transport.assign(transport.begin(), transport.end());
  packet.payload.assign(body.begin() + static_cast<ptrdiff_t>(header_bytes),
                        body.end() - packet.headers.bth.pad_count);
  return packet;
}

/// Where the packet says that operation `index` lies in the server's memory.
std::optional<uint64_t> named_address(const Captured& packet) {
  const uint16_t set = wire::header_set(packet.headers.bth.opcode);
  if ((set & wire::kHasReth) != 0) return packet.headers.reth.address;
  if ((set & wire::kHasAtomicEth) != 0) return packet.headers.atomic.address;
  return std::nullopt;
}

void find_memory(const Scenario& scenario, Capture& capture) {
  size_t index = 0;
  while (index < scenario.operations.size() && !names_memory(scenario.operations[index].kind)) {
    ++index;
  }
  for (const Captured& packet : capture.packets) {
    if (const auto address = named_address(packet); address && packet.from_client) {
      const bool is_atomic =
          (wire::header_set(packet.headers.bth.opcode) & wire::kHasAtomicEth) != 0;
      capture.memory_address = *address - uint64_t{kSlotBytes} * index;
      capture.memory_key = is_atomic ? packet.headers.atomic.key : packet.headers.reth.key;
      return;
    }
  }
  // Nothing but SENDs: any memory will do.
  capture.memory_address = uint64_t{1} << 40;
  capture.memory_key = 1;
}

}  // namespace

Capture read_capture(const Scenario& scenario) {
  Capture capture;
  const std::string path = FLEXINS_TEST_VECTORS "/" + std::string(scenario.file) + ".pcap";
  for (const wire::Frame& frame : wire::read_pcap(path)) {
    Captured packet = dissect(frame);
    packet.number = capture.packets.size() + 1;
    // The client has the first word.
    if (capture.packets.empty()) capture.client = packet.outer.source;
    packet.from_client = packet.outer.source == capture.client;
    (packet.from_client ? capture.server : capture.client) = packet.outer.destination;
    (packet.from_client ? capture.server_qpn : capture.client_qpn) = packet.headers.bth.destination;
    capture.packets.push_back(std::move(packet));
  }
  if (capture.packets.empty()) throw std::runtime_error("no packets in " + path);
  find_memory(scenario, capture);
  return capture;
}

Wire::Wire(const Scenario& scenario) : scenario_(scenario), seen_(scenario.faults.size()) {}

std::vector<Arrival> Wire::carry(const Captured& packet) {
  std::vector<Arrival> arrivals = {{&packet, packet.transport}};
  for (size_t i = 0; i < seen_.size(); ++i) {
    const Fault& fault = scenario_.faults[i];
    if (fault.opcode != packet.headers.bth.opcode || ++seen_[i] != fault.nth) continue;
    switch (fault.kind) {
      case Fault::Kind::kDropped: return {};
      case Fault::Kind::kDuplicated: arrivals.push_back(arrivals.front()); break;
      case Fault::Kind::kDelayed: held_ = std::move(arrivals); return {};
      case Fault::Kind::kFlipped: arrivals.front().transport[fault.byte] ^= std::byte{1}; break;
    }
  }
  // What was held comes behind the next one of the same sender.
  if (!held_.empty() && held_.front().packet->from_client == packet.from_client) {
    arrivals.push_back(std::move(held_.front()));
    held_.clear();
  }
  return arrivals;
}

std::string describe(const Captured& packet) {
  char text[128];
  const uint16_t set = wire::header_set(packet.headers.bth.opcode);
  std::snprintf(text, sizeof text, "packet %zu: opcode %#x, PSN %06x, %zu bytes of payload",
                packet.number, static_cast<unsigned>(packet.headers.bth.opcode),
                packet.headers.bth.psn.value(), packet.payload.size());
  std::string all = text;
  if ((set & wire::kHasAeth) != 0) {
    std::snprintf(text, sizeof text, ", syndrome %02x, MSN %u", packet.headers.aeth.syndrome,
                  packet.headers.aeth.msn);
    all += text;
  }
  return all;
}

}  // namespace flexins::interop
