#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "wire/headers.h"
#include "wire/icrc.h"
#include "wire/internet.h"
#include "wire/packet.h"

namespace flexins::wire {
namespace {

// The same cases in every run, unless RC_PARAMS asks for others.
[[maybe_unused]] const int kSeedIsSet = setenv("RC_PARAMS", "seed=4791 max_success=1000", 0);

const std::vector<uint8_t>& known_opcodes() {
  static const std::vector<uint8_t> known = [] {
    std::vector<uint8_t> opcodes;
    for (int i = 0; i < 256; ++i) {
      if (header_set(static_cast<Opcode>(i)) != 0) opcodes.push_back(static_cast<uint8_t>(i));
    }
    return opcodes;
  }();
  return known;
}

std::vector<std::byte> random_bytes(size_t count) {
  const auto values =
      *rc::gen::container<std::vector<uint8_t>>(count, rc::gen::arbitrary<uint8_t>());
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(values[i]);
  return bytes;
}

/// A packet of a known opcode with TVer 0 and no pad, all other bits random.
std::vector<std::byte> random_packet(size_t payload) {
  const auto opcode = *rc::gen::elementOf(known_opcodes());
  auto bytes = random_bytes(header_bytes(static_cast<Opcode>(opcode)) + payload);
  bytes[0] = std::byte{opcode};
  bytes[1] &= std::byte{0xc0};
  return bytes;
}

Headers random_headers() {
  using rc::gen::arbitrary;
  const auto number24 = [] { return *rc::gen::inRange<uint32_t>(0, 1 << 24); };
  Headers h;
  h.bth.opcode = static_cast<Opcode>(*rc::gen::elementOf(known_opcodes()));
  h.bth.solicited = *arbitrary<bool>();
  h.bth.migration = *arbitrary<bool>();
  h.bth.pkey = *arbitrary<uint16_t>();
  h.bth.byte4 = *arbitrary<uint8_t>();
  h.bth.destination = base::Qpn{number24()};
  h.bth.ack_request = *arbitrary<bool>();
  h.bth.reserved7 = *rc::gen::inRange<uint8_t>(0, 128);
  h.bth.psn = base::Psn(number24());
  h.xrceth = {*arbitrary<uint8_t>(), number24()};
  h.deth = {*arbitrary<uint32_t>(), *arbitrary<uint8_t>(), base::Qpn{number24()}};
  h.reth = {*arbitrary<uint64_t>(), *arbitrary<uint32_t>(), *arbitrary<uint32_t>()};
  h.atomic = {*arbitrary<uint64_t>(), *arbitrary<uint32_t>(), *arbitrary<uint64_t>(),
              *arbitrary<uint64_t>()};
  h.aeth = {*arbitrary<uint8_t>(), number24()};
  h.atomic_original = *arbitrary<uint64_t>();
  h.immediate = *arbitrary<uint32_t>();
  h.invalidate_key = *arbitrary<uint32_t>();
  return h;
}

void assert_same_bth(const Bth& a, const Bth& b) {
  RC_ASSERT(a.opcode == b.opcode);
  RC_ASSERT(a.solicited == b.solicited);
  RC_ASSERT(a.migration == b.migration);
  RC_ASSERT(a.pad_count == b.pad_count);
  RC_ASSERT(a.version == b.version);
  RC_ASSERT(a.pkey == b.pkey);
  RC_ASSERT(a.byte4 == b.byte4);
  RC_ASSERT(a.destination == b.destination);
  RC_ASSERT(a.ack_request == b.ack_request);
  RC_ASSERT(a.reserved7 == b.reserved7);
  RC_ASSERT(a.psn == b.psn);
}

void assert_same_extensions(uint16_t set, const Headers& a, const Headers& b) {
  if (set & kHasXrceth) {
    RC_ASSERT(a.xrceth.reserved == b.xrceth.reserved);
    RC_ASSERT(a.xrceth.srqn == b.xrceth.srqn);
  }
  if (set & kHasDeth) {
    RC_ASSERT(a.deth.qkey == b.deth.qkey);
    RC_ASSERT(a.deth.reserved == b.deth.reserved);
    RC_ASSERT(a.deth.source == b.deth.source);
  }
  if (set & kHasReth) {
    RC_ASSERT(a.reth.address == b.reth.address);
    RC_ASSERT(a.reth.key == b.reth.key);
    RC_ASSERT(a.reth.length == b.reth.length);
  }
  if (set & kHasAtomicEth) {
    RC_ASSERT(a.atomic.address == b.atomic.address);
    RC_ASSERT(a.atomic.key == b.atomic.key);
    RC_ASSERT(a.atomic.swap_add == b.atomic.swap_add);
    RC_ASSERT(a.atomic.compare == b.atomic.compare);
  }
  if (set & kHasAeth) {
    RC_ASSERT(a.aeth.syndrome == b.aeth.syndrome);
    RC_ASSERT(a.aeth.msn == b.aeth.msn);
  }
  if (set & kHasAtomicAck) RC_ASSERT(a.atomic_original == b.atomic_original);
  if (set & kHasImmediate) RC_ASSERT(a.immediate == b.immediate);
  if (set & kHasIeth) RC_ASSERT(a.invalidate_key == b.invalidate_key);
}

RC_GTEST_PROP(HeadersProperty, EveryFieldSurvives, ()) {
  Headers in = random_headers();
  const uint16_t set = header_set(in.bth.opcode);
  const bool payload = (set & kHasPayload) != 0;
  if (payload) in.bth.pad_count = *rc::gen::inRange<uint8_t>(0, 4);
  std::vector<std::byte> bytes(kMaxHeaderBytes);
  bytes.resize(emit(in, bytes) + (payload ? 4 : 0));
  Headers out;
  size_t header_length = 0;
  RC_ASSERT(parse(bytes, 0, out, header_length) == ParseError::kNone);
  RC_ASSERT(header_length == header_bytes(in.bth.opcode));
  assert_same_bth(in.bth, out.bth);
  assert_same_extensions(set, in, out);
}

RC_GTEST_PROP(HeadersProperty, EveryBitSurvives, ()) {
  const auto bytes = random_packet(*rc::gen::inRange<size_t>(0, 64));
  Headers headers;
  size_t header_length = 0;
  RC_ASSERT(parse(bytes, 0, headers, header_length) == ParseError::kNone);
  std::vector<std::byte> again(header_length);
  RC_ASSERT(emit(headers, again) == header_length);
  RC_ASSERT(std::equal(again.begin(), again.end(), bytes.begin()));
}

RC_GTEST_PROP(HeadersProperty, RandomBytesParseOrFail, ()) {
  const auto bytes = random_bytes(*rc::gen::inRange<size_t>(0, 80));
  Headers headers;
  size_t header_length = 0;
  if (parse(bytes, 0, headers, header_length) != ParseError::kNone) return;
  RC_ASSERT(header_length <= bytes.size());
  RC_ASSERT(header_length + headers.bth.pad_count <= bytes.size());
}

RC_GTEST_PROP(HeadersProperty, TruncatedHeadersAreTooShort, ()) {
  const auto bytes = random_packet(0);
  // An exact copy per length, so that a sanitizer sees a read past the end.
  for (size_t length = 0; length < bytes.size(); ++length) {
    const std::vector<std::byte> cut(bytes.begin(),
                                     bytes.begin() + static_cast<std::ptrdiff_t>(length));
    Headers headers;
    size_t header_length = 0;
    RC_ASSERT(parse(cut, 0, headers, header_length) == ParseError::kTooShort);
  }
}

DatagramHeaders random_datagram(uint16_t payload_bytes) {
  using rc::gen::arbitrary;
  DatagramHeaders d;
  const bool v4 = *arbitrary<bool>();
  const auto source = random_bytes(16);
  const auto destination = random_bytes(16);
  d.source = v4 ? IpAddress::from_v4(source.data()) : IpAddress::from_v6(source.data());
  d.destination =
      v4 ? IpAddress::from_v4(destination.data()) : IpAddress::from_v6(destination.data());
  // Sixteen small random bytes may well be a mapped address.
  if (!v4) d.source.bytes[0] = d.destination.bytes[0] = 0xfd;
  d.traffic_class = *arbitrary<uint8_t>();
  d.hop_limit = *arbitrary<uint8_t>();
  d.identification = v4 ? *arbitrary<uint16_t>() : 0;
  d.flags_fragment = v4 && *arbitrary<bool>() ? kIpv4DontFragment : 0;
  d.flow_label = v4 ? 0 : *rc::gen::inRange<uint32_t>(0, 1 << 20);
  d.source_port = *arbitrary<uint16_t>();
  d.destination_port = *arbitrary<uint16_t>();
  d.udp_checksum = *arbitrary<uint16_t>();
  d.payload_bytes = payload_bytes;
  return d;
}

std::vector<std::byte> with_payload(const DatagramHeaders& headers) {
  std::vector<std::byte> packet(datagram_header_bytes(headers) + headers.payload_bytes);
  RC_ASSERT(emit_datagram(headers, packet) == datagram_header_bytes(headers));
  return packet;
}

RC_GTEST_PROP(DatagramProperty, EveryFieldSurvives, ()) {
  const DatagramHeaders in = random_datagram(*rc::gen::inRange<uint16_t>(0, 5000));
  const auto packet = with_payload(in);
  DatagramHeaders out;
  std::span<const std::byte> payload;
  RC_ASSERT(parse_datagram(packet, out, payload) == InternetError::kNone);
  RC_ASSERT(payload.data() == packet.data() + datagram_header_bytes(in));
  RC_ASSERT(payload.size() == in.payload_bytes);
  RC_ASSERT(out.payload_bytes == in.payload_bytes);
  RC_ASSERT(out.source == in.source);
  RC_ASSERT(out.destination == in.destination);
  RC_ASSERT(out.source_port == in.source_port);
  RC_ASSERT(out.destination_port == in.destination_port);
  RC_ASSERT(out.udp_checksum == in.udp_checksum);
  RC_ASSERT(with_payload(out) == packet);
}

RC_GTEST_PROP(DatagramProperty, RandomBytesParseOrFail, ()) {
  auto bytes = random_bytes(*rc::gen::inRange<size_t>(0, 120));
  if (!bytes.empty()) bytes[0] = *rc::gen::element(std::byte{0x45}, std::byte{0x60}, bytes[0]);
  DatagramHeaders headers;
  std::span<const std::byte> payload;
  if (parse_datagram(bytes, headers, payload) != InternetError::kNone) return;
  RC_ASSERT(payload.size() <= bytes.size());
}

RC_GTEST_PROP(DatagramProperty, TruncationsFail, ()) {
  const auto packet = with_payload(random_datagram(*rc::gen::inRange<uint16_t>(0, 64)));
  for (size_t length = 0; length < packet.size(); ++length) {
    const std::vector<std::byte> cut(packet.begin(),
                                     packet.begin() + static_cast<std::ptrdiff_t>(length));
    DatagramHeaders headers;
    std::span<const std::byte> payload;
    RC_ASSERT(parse_datagram(cut, headers, payload) == InternetError::kTooShort);
  }
}

}  // namespace
}  // namespace flexins::wire
