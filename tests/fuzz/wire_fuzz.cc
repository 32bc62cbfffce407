#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/check.h"
#include "wire/frame_key.h"
#include "wire/headers.h"
#include "wire/icrc.h"
#include "wire/internet.h"
#include "wire/packet.h"

/// Any bytes, taken as a frame and as a packet behind UDP: nothing may crash, and what parses must
/// come out again bit by bit.

namespace flexins::wire {
namespace {

void try_transport(std::span<const std::byte> bytes) {
  Headers headers;
  size_t header_length = 0;
  if (parse(bytes, 0, headers, header_length) != ParseError::kNone) return;
  FLEXINS_CHECK(header_length + headers.bth.pad_count <= bytes.size());
  FLEXINS_CHECK(header_length == header_bytes(headers.bth.opcode));
  std::array<std::byte, kMaxHeaderBytes> again;
  FLEXINS_CHECK(emit(headers, again) == header_length);
  FLEXINS_CHECK(std::memcmp(again.data(), bytes.data(), header_length) == 0);
}

void try_icrc(const OuterHeaders& outer, std::span<const std::byte> packet) {
  uint16_t identification = outer.identification;
  if (icrc_check(outer, packet, identification) != IcrcVerdict::kPlausible) return;
  // What was found must hold: as it stands, or with the other value of DF.
  OuterHeaders found = outer;
  found.identification = identification;
  IcrcVerdict verdict = icrc_check(found, packet, identification);
  if (verdict != IcrcVerdict::kExact) {
    found.dont_fragment = !found.dont_fragment;
    verdict = icrc_check(found, packet, identification);
  }
  FLEXINS_CHECK(verdict == IcrcVerdict::kExact);
}

void try_frame(std::span<const std::byte> frame) {
  EthernetHeader ethernet;
  if (!parse_ethernet(frame, ethernet)) return;
  const auto packet = frame.subspan(kEthernetBytes);
  DatagramHeaders datagram;
  std::span<const std::byte> payload;
  if (parse_datagram(packet, datagram, payload) != InternetError::kNone) return;
  const size_t header_length = datagram_header_bytes(datagram);
  FLEXINS_CHECK(payload.data() == packet.data() + header_length);
  FLEXINS_CHECK(payload.size() == datagram.payload_bytes);
  std::array<std::byte, kIpv6HeaderBytes + kUdpHeaderBytes> again;
  FLEXINS_CHECK(emit_datagram(datagram, again) == header_length);
  // A checksum of zero has a second form in ones' complement, which we accept and never send.
  if (datagram.destination.is_v4() && again[10] == std::byte{0} && again[11] == std::byte{0}) {
    again[10] = packet[10];
    again[11] = packet[11];
  }
  FLEXINS_CHECK(std::memcmp(again.data(), packet.data(), header_length) == 0);
  try_icrc(outer_headers(datagram), payload);
  try_transport(payload);
}

void try_frame_key(std::span<const std::byte> frame) {
  base::FlowKey key;
  FLEXINS_CHECK(parse_frame_key(frame, key) == (frame.size() >= kEthernetBytes));
}

}  // namespace
}  // namespace flexins::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  flexins::wire::try_frame_key(bytes);
  flexins::wire::try_frame(bytes);
  flexins::wire::try_transport(bytes);
  flexins::wire::OuterHeaders outer;
  outer.source = outer.destination = flexins::wire::IpAddress::from_v4("\x7f\0\0\x01");
  outer.transport_bytes = static_cast<uint16_t>(size);
  flexins::wire::try_icrc(outer, bytes);
  return 0;
}
