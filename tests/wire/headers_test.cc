#include "wire/headers.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

#include "wire/packet.h"

namespace flexins::wire {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

std::vector<std::byte> emitted(const Headers& headers) {
  std::vector<std::byte> bytes(kMaxHeaderBytes);
  bytes.resize(emit(headers, bytes));
  return bytes;
}

struct OpcodeCase {
  int opcode;
  size_t bytes;
  int set;  ///< without kKnownOpcode
};

/// IBTA table 38 written out, so that the table in the code has a second opinion.
constexpr OpcodeCase kTable[] = {
    {0x00, 12, kHasPayload},
    {0x01, 12, kHasPayload},
    {0x02, 12, kHasPayload},
    {0x03, 16, kHasImmediate | kHasPayload},
    {0x04, 12, kHasPayload},
    {0x05, 16, kHasImmediate | kHasPayload},
    {0x06, 28, kHasReth | kHasPayload},
    {0x07, 12, kHasPayload},
    {0x08, 12, kHasPayload},
    {0x09, 16, kHasImmediate | kHasPayload},
    {0x0a, 28, kHasReth | kHasPayload},
    {0x0b, 32, kHasReth | kHasImmediate | kHasPayload},
    {0x0c, 28, kHasReth},
    {0x0d, 16, kHasAeth | kHasPayload},
    {0x0e, 12, kHasPayload},
    {0x0f, 16, kHasAeth | kHasPayload},
    {0x10, 16, kHasAeth | kHasPayload},
    {0x11, 16, kHasAeth},
    {0x12, 24, kHasAeth | kHasAtomicAck},
    {0x13, 40, kHasAtomicEth},
    {0x14, 40, kHasAtomicEth},
    {0x16, 16, kHasIeth | kHasPayload},
    {0x17, 16, kHasIeth | kHasPayload},
    {0x1d, 28, kHasReth | kHasPayload},
    {0x20, 12, kHasPayload},
    {0x21, 12, kHasPayload},
    {0x22, 12, kHasPayload},
    {0x23, 16, kHasImmediate | kHasPayload},
    {0x24, 12, kHasPayload},
    {0x25, 16, kHasImmediate | kHasPayload},
    {0x26, 28, kHasReth | kHasPayload},
    {0x27, 12, kHasPayload},
    {0x28, 12, kHasPayload},
    {0x29, 16, kHasImmediate | kHasPayload},
    {0x2a, 28, kHasReth | kHasPayload},
    {0x2b, 32, kHasReth | kHasImmediate | kHasPayload},
    {0x64, 20, kHasDeth | kHasPayload},
    {0x65, 24, kHasDeth | kHasImmediate | kHasPayload},
    {0x81, 12, kHasPayload},
    {0xa0, 16, kHasXrceth | kHasPayload},
    {0xa1, 16, kHasXrceth | kHasPayload},
    {0xa2, 16, kHasXrceth | kHasPayload},
    {0xa3, 20, kHasXrceth | kHasImmediate | kHasPayload},
    {0xa4, 16, kHasXrceth | kHasPayload},
    {0xa5, 20, kHasXrceth | kHasImmediate | kHasPayload},
    {0xa6, 32, kHasXrceth | kHasReth | kHasPayload},
    {0xa7, 16, kHasXrceth | kHasPayload},
    {0xa8, 16, kHasXrceth | kHasPayload},
    {0xa9, 20, kHasXrceth | kHasImmediate | kHasPayload},
    {0xaa, 32, kHasXrceth | kHasReth | kHasPayload},
    {0xab, 36, kHasXrceth | kHasReth | kHasImmediate | kHasPayload},
    {0xac, 32, kHasXrceth | kHasReth},
    {0xad, 16, kHasAeth | kHasPayload},
    {0xae, 12, kHasPayload},
    {0xaf, 16, kHasAeth | kHasPayload},
    {0xb0, 16, kHasAeth | kHasPayload},
    {0xb1, 16, kHasAeth},
    {0xb2, 24, kHasAeth | kHasAtomicAck},
    {0xb3, 44, kHasXrceth | kHasAtomicEth},
    {0xb4, 44, kHasXrceth | kHasAtomicEth},
    {0xb6, 20, kHasXrceth | kHasIeth | kHasPayload},
    {0xb7, 20, kHasXrceth | kHasIeth | kHasPayload},
    {0xbd, 32, kHasXrceth | kHasReth | kHasPayload},
};

TEST(OpcodeTable, IsTheSpecification) {
  std::array<OpcodeCase, 256> expected{};
  for (const OpcodeCase& c : kTable) expected[static_cast<size_t>(c.opcode)] = c;
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto opcode = static_cast<Opcode>(i);
    const int set = expected[i].bytes == 0 ? 0 : expected[i].set | kKnownOpcode;
    EXPECT_EQ(header_set(opcode), set) << "opcode " << i;
    EXPECT_EQ(header_bytes(opcode), expected[i].bytes) << "opcode " << i;
    EXPECT_LE(header_bytes(opcode), kMaxHeaderBytes);
  }
}

TEST(Emit, WriteOnlyImmediate) {
  Headers h;
  h.bth.opcode = Opcode::kRcWriteOnlyImmediate;
  h.bth.solicited = true;
  h.bth.pad_count = 3;
  h.bth.pkey = 0x8001;
  h.bth.byte4 = 0x40;
  h.bth.destination = base::Qpn{0x11'2233};
  h.bth.ack_request = true;
  h.bth.psn = base::Psn(0xff'fffe);
  h.reth = {0x0102'0304'0506'0708, 0x1112'1314, 0x2122'2324};
  std::memcpy(&h.immediate, "\xa1\xa2\xa3\xa4", 4);
  EXPECT_EQ(emitted(h), bytes_of({0x0b, 0xb0, 0x80, 0x01, 0x40, 0x11, 0x22, 0x33, 0x80, 0xff, 0xff,
                                  0xfe, 1,    2,    3,    4,    5,    6,    7,    8,    0x11, 0x12,
                                  0x13, 0x14, 0x21, 0x22, 0x23, 0x24, 0xa1, 0xa2, 0xa3, 0xa4}));
}

TEST(Emit, XrcCompareSwap) {
  Headers h;
  h.bth.opcode = static_cast<Opcode>(0xb3);
  h.xrceth.srqn = 0x01'0203;
  h.atomic = {1, 2, 3, 4};
  EXPECT_EQ(emitted(h),
            bytes_of({0xb3, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0,
                      0,    1, 0,    0,    0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4}));
}

TEST(Emit, AtomicAcknowledge) {
  Headers h;
  h.bth.opcode = Opcode::kRcAtomicAcknowledge;
  h.aeth = {kSyndromeAck, 0x0a'0b0c};
  h.atomic_original = 0x0102'0304'0506'0708;
  EXPECT_EQ(emitted(h), bytes_of({0x12, 0,  0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
                                  0x1f, 10, 11,   12,   1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST(Emit, DatagramAndInvalidate) {
  Headers h;
  h.bth.opcode = Opcode::kUdSendOnly;
  h.deth = {0x8001'0000, 0, base::Qpn{1}};
  EXPECT_EQ(emitted(h),
            bytes_of({0x64, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0, 0, 0, 1}));
  h = {};
  h.bth.opcode = Opcode::kRcSendOnlyInvalidate;
  h.invalidate_key = 0x0102'0304;
  EXPECT_EQ(emitted(h), bytes_of({0x17, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}));
}

TEST(Emit, NeverSpillsOverItsFields) {
  Headers h;
  h.bth.opcode = Opcode::kRcAcknowledge;
  h.bth.pad_count = 0xff;
  h.bth.version = 0xf0;
  h.bth.destination = base::Qpn{0xff00'0001};
  h.bth.reserved7 = 0x80;
  h.aeth = {0, 0xff00'0002};
  EXPECT_EQ(emitted(h), bytes_of({0x11, 0x30, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2}));
}

TEST(EmitDeathTest, RefusesWhatItDoesNotKnow) {
  std::array<std::byte, kMaxHeaderBytes> out;
  Headers h;
  h.bth.opcode = static_cast<Opcode>(0x15);
  EXPECT_DEATH(emit(h, out), "check failed");
  h.bth.opcode = Opcode::kRcAcknowledge;
  EXPECT_DEATH(emit(h, std::span(out).first(15)), "check failed");
}

class Parse : public testing::Test {
 protected:
  ParseError run(const std::vector<std::byte>& bytes, size_t trailing = 0) {
    return parse(bytes, trailing, headers_, header_length_);
  }
  /// A SEND only with `pad` in its BTH and `payload` bytes behind it.
  static std::vector<std::byte> send(int pad, size_t payload) {
    auto bytes = bytes_of({0x04, pad << 4, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0});
    bytes.resize(bytes.size() + payload);
    return bytes;
  }
  Headers headers_;
  size_t header_length_ = 0;
};

TEST_F(Parse, UnknownOpcodes) {
  EXPECT_EQ(run(bytes_of({0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})), ParseError::kUnknownOpcode);
  EXPECT_EQ(run(bytes_of({0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})), ParseError::kUnknownOpcode);
}

TEST_F(Parse, Versions) {
  for (int version = 1; version < 16; ++version) {
    auto bytes = send(0, 4);
    bytes[1] = static_cast<std::byte>(version);
    EXPECT_EQ(run(bytes), ParseError::kBadVersion);
  }
}

TEST_F(Parse, PadNeedsPayload) {
  EXPECT_EQ(run(send(0, 0)), ParseError::kNone);
  EXPECT_EQ(run(send(1, 0)), ParseError::kBadPad);
  EXPECT_EQ(run(send(3, 3)), ParseError::kBadPad) << "all pad, no payload";
  EXPECT_EQ(run(send(3, 4)), ParseError::kNone);
  EXPECT_EQ(headers_.bth.pad_count, 3);
  auto acknowledge = bytes_of({0x11, 0x10, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0});
  acknowledge.resize(20);
  EXPECT_EQ(run(acknowledge), ParseError::kBadPad) << "an opcode that has no payload";
}

TEST_F(Parse, PayloadElsewhereBringsNoPad) {
  EXPECT_EQ(run(send(3, 0), 1), ParseError::kNone);
  EXPECT_EQ(header_length_, 12U);
}

TEST_F(Parse, EmptyInput) { EXPECT_EQ(run({}), ParseError::kTooShort); }

TEST(ParseErrorNames, AreDistinct) {
  EXPECT_EQ(to_string(ParseError::kNone), "none");
  EXPECT_EQ(to_string(ParseError::kBadPad), "bad pad count");
  EXPECT_EQ(to_string(static_cast<ParseError>(200)), "invalid");
}

}  // namespace
}  // namespace flexins::wire
