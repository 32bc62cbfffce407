#include "wire/headers.h"

#include <array>
#include <cstring>

#include "base/byte_order.h"
#include "base/check.h"

namespace flexins::wire {

namespace {

using base::load_be;
using base::store_be;

constexpr size_t kBthBytes = 12;
constexpr size_t kXrcethBytes = 4;
constexpr size_t kDethBytes = 8;
constexpr size_t kRethBytes = 16;
constexpr size_t kAtomicEthBytes = 28;
constexpr size_t kAethBytes = 4;
constexpr size_t kAtomicAckBytes = 8;
constexpr size_t kImmediateBytes = 4;
constexpr size_t kIethBytes = 4;

constexpr uint32_t k24Bits = 0xff'ffff;

/// The operations that the reliable class has, by the low five bits of their opcode.
constexpr std::array<uint16_t, 0x1e> kReliableOperations = {
    /* SEND first…last */ kHasPayload,
    kHasPayload,
    kHasPayload,
    kHasImmediate | kHasPayload,
    /* SEND only */ kHasPayload,
    kHasImmediate | kHasPayload,
    /* WRITE first…last */ kHasReth | kHasPayload,
    kHasPayload,
    kHasPayload,
    kHasImmediate | kHasPayload,
    /* WRITE only */ kHasReth | kHasPayload,
    kHasReth | kHasImmediate | kHasPayload,
    /* READ request */ kHasReth,
    /* READ response first…only */ kHasAeth | kHasPayload,
    kHasPayload,
    kHasAeth | kHasPayload,
    kHasAeth | kHasPayload,
    /* acknowledgements */ kHasAeth,
    kHasAeth | kHasAtomicAck,
    /* atomics */ kHasAtomicEth,
    kHasAtomicEth,
    /* 0x15 is reserved */ 0,
    /* SEND last, only with invalidate */ kHasIeth | kHasPayload,
    kHasIeth | kHasPayload,
    /* 0x18 to 0x1b are reserved, 0x1c (FLUSH) is not known here */ 0,
    0,
    0,
    0,
    0,
    /* atomic write */ kHasReth | kHasPayload};

constexpr size_t kUnreliableOperations = 0x0c;  // SEND and WRITE, nothing that is answered
constexpr uint8_t kFirstResponse = 0x0d;
constexpr uint8_t kLastResponse = 0x12;

constexpr size_t bytes_of(uint16_t set) {
  size_t bytes = kBthBytes;
  if (set & kHasXrceth) bytes += kXrcethBytes;
  if (set & kHasDeth) bytes += kDethBytes;
  if (set & kHasReth) bytes += kRethBytes;
  if (set & kHasAtomicEth) bytes += kAtomicEthBytes;
  if (set & kHasAeth) bytes += kAethBytes;
  if (set & kHasAtomicAck) bytes += kAtomicAckBytes;
  if (set & kHasImmediate) bytes += kImmediateBytes;
  if (set & kHasIeth) bytes += kIethBytes;
  return bytes;
}

struct OpcodeEntry {
  uint16_t set = 0;
  uint16_t bytes = 0;
};

constexpr std::array<OpcodeEntry, 256> make_opcode_table() {
  std::array<OpcodeEntry, 256> table{};
  const auto define = [&table](size_t opcode, uint16_t set) {
    table[opcode].set = static_cast<uint16_t>(set | kKnownOpcode);
    table[opcode].bytes = static_cast<uint16_t>(bytes_of(set));
  };
  for (size_t n = 0; n < kReliableOperations.size(); ++n) {
    const uint16_t set = kReliableOperations[n];
    if (set == 0) continue;
    define(static_cast<size_t>(TransportClass::kReliable) + n, set);
    if (n < kUnreliableOperations) {
      define(static_cast<size_t>(TransportClass::kUnreliable) + n, set);
    }
    // The target of an XRC response is an ordinary QP: only requests name a shared receive queue.
    const bool response = n >= kFirstResponse && n <= kLastResponse;
    define(static_cast<size_t>(TransportClass::kExtendedReliable) + n,
           static_cast<uint16_t>(response ? set : set | kHasXrceth));
  }
  define(static_cast<size_t>(Opcode::kUdSendOnly), kHasDeth | kHasPayload);
  define(static_cast<size_t>(Opcode::kUdSendOnlyImmediate), kHasDeth | kHasImmediate | kHasPayload);
  // A CNP carries 16 reserved bytes behind its BTH.
  define(static_cast<size_t>(Opcode::kCnp), kHasPayload);
  return table;
}

constexpr std::array<OpcodeEntry, 256> kOpcodes = make_opcode_table();

const OpcodeEntry& entry_of(Opcode opcode) { return kOpcodes[static_cast<uint8_t>(opcode)]; }

/// Reads forward through bytes whose number was checked before.
class Reader {
 public:
  explicit Reader(const std::byte* at) : at_(at) {}
  template <typename T>
  T take() {
    const T value = load_be<T>(at_);
    at_ += sizeof(T);
    return value;
  }
  uint32_t take_raw() {
    uint32_t value;
    std::memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

 private:
  const std::byte* at_;
};

/// Writes forward into a buffer whose size was checked before.
class Writer {
 public:
  explicit Writer(std::byte* at) : at_(at) {}
  template <typename T>
  void put(T value) {
    store_be<T>(at_, value);
    at_ += sizeof(T);
  }
  /// A byte and a 24-bit number, as most transport headers pair them.
  void put_8_24(uint8_t high, uint32_t low) {
    put<uint32_t>(uint32_t{high} << 24 | (low & k24Bits));
  }
  void put_raw(uint32_t value) {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }

 private:
  std::byte* at_;
};

void read_bth(Reader& in, Bth& bth) {
  const auto first = in.take<uint32_t>();
  bth.opcode = static_cast<Opcode>(first >> 24);
  bth.solicited = (first >> 23 & 1) != 0;
  bth.migration = (first >> 22 & 1) != 0;
  bth.pad_count = static_cast<uint8_t>(first >> 20 & 3);
  bth.version = static_cast<uint8_t>(first >> 16 & 0xf);
  bth.pkey = static_cast<uint16_t>(first);
  const auto second = in.take<uint32_t>();
  bth.byte4 = static_cast<uint8_t>(second >> 24);
  bth.destination = base::Qpn{second & k24Bits};
  const auto third = in.take<uint32_t>();
  bth.ack_request = (third >> 31) != 0;
  bth.reserved7 = static_cast<uint8_t>(third >> 24 & 0x7f);
  bth.psn = base::Psn(third);
}

void write_bth(Writer& out, const Bth& bth) {
  out.put<uint32_t>(uint32_t{static_cast<uint8_t>(bth.opcode)} << 24 |
                    uint32_t{bth.solicited} << 23 | uint32_t{bth.migration} << 22 |
                    (uint32_t{bth.pad_count} & 3) << 20 | (uint32_t{bth.version} & 0xf) << 16 |
                    bth.pkey);
  out.put_8_24(bth.byte4, bth.destination.value);
  out.put_8_24(static_cast<uint8_t>((bth.ack_request ? 0x80 : 0) | (bth.reserved7 & 0x7f)),
               bth.psn.value());
}

void read_extensions(Reader& in, uint16_t set, Headers& headers) {
  if (set & kHasXrceth) {
    const auto word = in.take<uint32_t>();
    headers.xrceth = {static_cast<uint8_t>(word >> 24), word & k24Bits};
  }
  if (set & kHasDeth) {
    headers.deth.qkey = in.take<uint32_t>();
    const auto word = in.take<uint32_t>();
    headers.deth.reserved = static_cast<uint8_t>(word >> 24);
    headers.deth.source = base::Qpn{word & k24Bits};
  }
  if (set & kHasReth) {
    headers.reth.address = in.take<uint64_t>();
    headers.reth.key = in.take<uint32_t>();
    headers.reth.length = in.take<uint32_t>();
  }
  if (set & kHasAtomicEth) {
    headers.atomic.address = in.take<uint64_t>();
    headers.atomic.key = in.take<uint32_t>();
    headers.atomic.swap_add = in.take<uint64_t>();
    headers.atomic.compare = in.take<uint64_t>();
  }
  if (set & kHasAeth) {
    const auto word = in.take<uint32_t>();
    headers.aeth = {static_cast<uint8_t>(word >> 24), word & k24Bits};
  }
  if (set & kHasAtomicAck) headers.atomic_original = in.take<uint64_t>();
  if (set & kHasImmediate) headers.immediate = in.take_raw();
  if (set & kHasIeth) headers.invalidate_key = in.take<uint32_t>();
}

void write_extensions(Writer& out, uint16_t set, const Headers& headers) {
  if (set & kHasXrceth) out.put_8_24(headers.xrceth.reserved, headers.xrceth.srqn);
  if (set & kHasDeth) {
    out.put<uint32_t>(headers.deth.qkey);
    out.put_8_24(headers.deth.reserved, headers.deth.source.value);
  }
  if (set & kHasReth) {
    out.put<uint64_t>(headers.reth.address);
    out.put<uint32_t>(headers.reth.key);
    out.put<uint32_t>(headers.reth.length);
  }
  if (set & kHasAtomicEth) {
    out.put<uint64_t>(headers.atomic.address);
    out.put<uint32_t>(headers.atomic.key);
    out.put<uint64_t>(headers.atomic.swap_add);
    out.put<uint64_t>(headers.atomic.compare);
  }
  if (set & kHasAeth) out.put_8_24(headers.aeth.syndrome, headers.aeth.msn);
  if (set & kHasAtomicAck) out.put<uint64_t>(headers.atomic_original);
  if (set & kHasImmediate) out.put_raw(headers.immediate);
  if (set & kHasIeth) out.put<uint32_t>(headers.invalidate_key);
}

}  // namespace

uint16_t header_set(Opcode opcode) noexcept { return entry_of(opcode).set; }

size_t header_bytes(Opcode opcode) noexcept { return entry_of(opcode).bytes; }

std::string_view to_string(ParseError error) {
  switch (error) {
    case ParseError::kNone: return "none";
    case ParseError::kTooShort: return "too short";
    case ParseError::kUnknownOpcode: return "unknown opcode";
    case ParseError::kBadVersion: return "bad transport version";
    case ParseError::kBadPad: return "bad pad count";
  }
  return "invalid";
}

ParseError parse(std::span<const std::byte> bytes, size_t trailing, Headers& out,
                 size_t& header_length) noexcept {
  if (bytes.size() < kBthBytes) return ParseError::kTooShort;
  Reader in(bytes.data());
  read_bth(in, out.bth);
  const OpcodeEntry& entry = entry_of(out.bth.opcode);
  if (entry.set == 0) return ParseError::kUnknownOpcode;
  if (out.bth.version != 0) return ParseError::kBadVersion;
  if (bytes.size() < entry.bytes) return ParseError::kTooShort;
  if (out.bth.pad_count != 0) {
    // Payload held elsewhere comes without its pad, so only bytes at hand can be short of it.
    const bool covered = trailing != 0 || bytes.size() - entry.bytes > out.bth.pad_count;
    if ((entry.set & kHasPayload) == 0 || !covered) return ParseError::kBadPad;
  }
  read_extensions(in, entry.set, out);
  header_length = entry.bytes;
  return ParseError::kNone;
}

size_t emit(const Headers& headers, std::span<std::byte> out) noexcept {
  const OpcodeEntry& entry = entry_of(headers.bth.opcode);
  FLEXINS_CHECK(entry.set != 0 && out.size() >= entry.bytes);
  Writer writer(out.data());
  write_bth(writer, headers.bth);
  write_extensions(writer, entry.set, headers);
  return entry.bytes;
}

}  // namespace flexins::wire
