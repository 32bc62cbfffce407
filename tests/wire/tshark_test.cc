#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "tests/wire/pcap.h"
#include "wire/headers.h"
#include "wire/icrc.h"
#include "wire/internet.h"
#include "wire/packet.h"

/// Wireshark's dissector reads what we emit: a reader of the format that shares no code with us.

namespace flexins::wire {
namespace {

constexpr size_t kIcrcBytes = 4;

/// Long enough to keep tshark's guesses away: it takes a short SEND for the start of a protocol
/// above RDMA and calls it malformed when the rest is missing.
constexpr size_t kPayloadBytes = 253;
constexpr uint8_t kPad = 3;

constexpr std::array kFields = {"infiniband.bth.opcode",
                                "infiniband.bth.se",
                                "infiniband.bth.padcnt",
                                "infiniband.bth.p_key",
                                "infiniband.bth.destqp",
                                "infiniband.bth.a",
                                "infiniband.bth.psn",
                                "infiniband.deth.q_key",
                                "infiniband.deth.srcqp",
                                "infiniband.reth.va",
                                "infiniband.reth.r_key",
                                "infiniband.reth.dmalen",
                                "infiniband.atomiceth.swapdt",
                                "infiniband.atomiceth.cmpdt",
                                "infiniband.aeth.syndrome",
                                "infiniband.aeth.msn",
                                "infiniband.atomicacketh.origremdt",
                                "infiniband.immdt",
                                "infiniband.ieth",
                                "infiniband.invariant.crc",
                                "ip.checksum.status",
                                "_ws.malformed"};

using Row = std::map<std::string, std::string>;

bool have_tshark() { return std::system("command -v tshark >/dev/null 2>&1") == 0; }

/// One row of kFields per frame of the capture at `path`.
std::vector<Row> dissect(const std::string& path) {
  std::string command =
      "tshark -n -o ip.check_checksum:TRUE -T fields -E separator=/s -E quote=d -E occurrence=f";
  for (const char* field : kFields) command += std::string(" -e ") + field;
  command += " -r '" + path + "' 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> buffer;
  while (const size_t got = fread(buffer.data(), 1, buffer.size(), pipe.get())) {
    text.append(buffer.data(), got);
  }
  std::vector<Row> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    Row row;
    size_t at = 0;
    for (const char* field : kFields) {
      // An absent field is empty, a present one stands in double quotes.
      if (at < line.size() && line[at] == '"') {
        const size_t end = line.find('"', at + 1);
        row[field] = line.substr(at + 1, end - at - 1);
        at = end + 1;
      }
      ++at;
    }
    rows.push_back(row);
  }
  return rows;
}

Headers example(Opcode opcode) {
  Headers h;
  const auto number = static_cast<uint32_t>(opcode);
  h.bth.opcode = opcode;
  h.bth.solicited = number % 2 != 0;
  h.bth.ack_request = number % 3 == 0;
  h.bth.pad_count = (header_set(opcode) & kHasPayload) != 0 ? kPad : 0;
  h.bth.pkey = 0xffff;
  h.bth.destination = base::Qpn{0x12'3400 + number};
  h.bth.psn = base::Psn(0xfe'dc00 + number);
  h.deth = {0x1122'3344, 0, base::Qpn{0x55'6677}};
  h.reth = {0x7fff'1234'5678'9abc, 0xcafe'0001, 0x0001'0203};
  h.atomic = {0x7fff'1234'5678'9ab8, 0xcafe'0002, 0x0102'0304'0506'0708, 0x1112'1314'1516'1718};
  h.aeth = {kSyndromeNakRemoteAccess, 0xab'cdef};
  h.atomic_original = 0x2122'2324'2526'2728;
  std::memcpy(&h.immediate, "\x31\x32\x33\x34", 4);
  h.invalidate_key = 0x4142'4344;
  return h;
}

Frame frame_of(const Headers& headers, bool v6) {
  DatagramHeaders d;
  d.source = v6 ? IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01")
                : IpAddress::from_v4("\x0a\0\0\x01");
  d.destination = v6 ? IpAddress::from_v6("\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02")
                     : IpAddress::from_v4("\x0a\0\0\x02");
  d.source_port = 0xc123;
  std::array<std::byte, kMaxHeaderBytes> header;
  const size_t header_length = emit(headers, header);
  const bool payload = (header_set(headers.bth.opcode) & kHasPayload) != 0;
  std::vector<std::byte> body(payload ? kPayloadBytes + kPad : 0);
  if (payload) std::fill_n(body.begin(), kPayloadBytes, std::byte{0x5a});
  d.payload_bytes = static_cast<uint16_t>(header_length + body.size() + kIcrcBytes);

  Frame frame(kEthernetBytes + datagram_header_bytes(d));
  EthernetHeader ethernet;
  ethernet.destination = {2, 0, 0, 0, 0, 2};
  ethernet.source = {2, 0, 0, 0, 0, 1};
  ethernet.ether_type = v6 ? kEtherTypeIpv6 : kEtherTypeIpv4;
  emit_ethernet(ethernet, frame);
  emit_datagram(d, std::span(frame).subspan(kEthernetBytes));
  const auto header_bytes_used = std::span<const std::byte>(header).first(header_length);
  frame.insert(frame.end(), header_bytes_used.begin(), header_bytes_used.end());
  frame.insert(frame.end(), body.begin(), body.end());
  const uint32_t crc = icrc_finish(icrc_add(icrc_begin(outer_headers(d), header_bytes_used), body));
  for (int shift = 0; shift < 32; shift += 8) frame.push_back(static_cast<std::byte>(crc >> shift));
  return frame;
}

uint64_t number(const Row& row, const std::string& field) {
  const auto found = row.find(field);
  if (found == row.end()) {
    ADD_FAILURE() << "tshark shows no " << field;
    return 0;
  }
  if (found->second == "True") return 1;
  return std::strtoull(found->second.c_str(), nullptr, 0);
}

std::string hex(const Row& row, const std::string& field) {
  const auto found = row.find(field);
  std::string digits = found == row.end() ? "" : found->second;
  digits.erase(std::remove(digits.begin(), digits.end(), ':'), digits.end());
  return digits;
}

void expect_extensions(const Row& row, const Headers& h) {
  const uint16_t set = header_set(h.bth.opcode);
  if (set & kHasDeth) {
    EXPECT_EQ(number(row, "infiniband.deth.q_key"), h.deth.qkey);
    EXPECT_EQ(number(row, "infiniband.deth.srcqp"), h.deth.source.value);
  }
  if (set & kHasReth) {
    EXPECT_EQ(number(row, "infiniband.reth.va"), h.reth.address);
    EXPECT_EQ(number(row, "infiniband.reth.r_key"), h.reth.key);
    EXPECT_EQ(number(row, "infiniband.reth.dmalen"), h.reth.length);
  }
  if (set & kHasAtomicEth) {
    EXPECT_EQ(number(row, "infiniband.reth.va"), h.atomic.address);
    EXPECT_EQ(number(row, "infiniband.reth.r_key"), h.atomic.key);
    EXPECT_EQ(number(row, "infiniband.atomiceth.swapdt"), h.atomic.swap_add);
    EXPECT_EQ(number(row, "infiniband.atomiceth.cmpdt"), h.atomic.compare);
  }
  if (set & kHasAeth) {
    EXPECT_EQ(number(row, "infiniband.aeth.syndrome"), h.aeth.syndrome);
    EXPECT_EQ(number(row, "infiniband.aeth.msn"), h.aeth.msn);
  }
  if (set & kHasAtomicAck) {
    EXPECT_EQ(number(row, "infiniband.atomicacketh.origremdt"), h.atomic_original);
  }
  if (set & kHasImmediate) {
    EXPECT_EQ(hex(row, "infiniband.immdt"), "31323334");
  }
  if (set & kHasIeth) {
    EXPECT_EQ(hex(row, "infiniband.ieth"), "41424344");
  }
}

void expect_row(const Row& row, const Headers& h, const Frame& frame) {
  SCOPED_TRACE("opcode " + std::to_string(static_cast<int>(h.bth.opcode)));
  EXPECT_EQ(row.count("_ws.malformed"), 0U);
  EXPECT_EQ(number(row, "infiniband.bth.opcode"), static_cast<uint64_t>(h.bth.opcode));
  EXPECT_EQ(number(row, "infiniband.bth.se"), h.bth.solicited ? 1U : 0U);
  EXPECT_EQ(number(row, "infiniband.bth.padcnt"), h.bth.pad_count);
  EXPECT_EQ(number(row, "infiniband.bth.p_key"), h.bth.pkey);
  EXPECT_EQ(number(row, "infiniband.bth.destqp"), h.bth.destination.value);
  EXPECT_EQ(number(row, "infiniband.bth.a"), h.bth.ack_request ? 1U : 0U);
  EXPECT_EQ(number(row, "infiniband.bth.psn"), h.bth.psn.value());
  // tshark 4.0 stops after the BTH of a CNP and of XRC, and does not know atomic writes.
  const TransportClass tc = transport_class(h.bth.opcode);
  if (tc == TransportClass::kCongestion || tc == TransportClass::kExtendedReliable ||
      h.bth.opcode == Opcode::kRcAtomicWrite) {
    return;
  }
  expect_extensions(row, h);
  // tshark prints the ICRC's four bytes in the order in which they stand.
  uint32_t icrc = 0;
  for (size_t i = frame.size() - kIcrcBytes; i < frame.size(); ++i) {
    icrc = icrc << 8 | static_cast<uint32_t>(frame[i]);
  }
  EXPECT_EQ(number(row, "infiniband.invariant.crc"), icrc);
}

class Tshark : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!have_tshark()) GTEST_SKIP() << "tshark is not installed";
    std::string pattern = testing::TempDir() + "flexins_wire_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  std::filesystem::path folder_;
};

TEST_P(Tshark, ReadsBackEveryOpcode) {
  const bool v6 = GetParam();
  std::vector<Headers> sent;
  std::vector<Frame> frames;
  for (int i = 0; i < 256; ++i) {
    const auto opcode = static_cast<Opcode>(i);
    if (header_set(opcode) == 0) continue;
    sent.push_back(example(opcode));
    frames.push_back(frame_of(sent.back(), v6));
  }
  const std::string path = folder_ / "emitted.pcap";
  write_pcap(path, frames);
  const std::vector<Row> rows = dissect(path);
  ASSERT_EQ(rows.size(), sent.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    expect_row(rows[i], sent[i], frames[i]);
    if (!v6) {
      EXPECT_EQ(number(rows[i], "ip.checksum.status"), 1U) << "1 is good";
    }
  }
}

TEST_P(Tshark, WouldTellAMalformedPacket) {
  Frame frame = frame_of(example(Opcode::kRcAcknowledge), GetParam());
  frame.erase(frame.end() - 10, frame.end());
  const std::string path = folder_ / "malformed.pcap";
  write_pcap(path, {frame});
  const std::vector<Row> rows = dissect(path);
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].count("_ws.malformed"), 1U);
}

INSTANTIATE_TEST_SUITE_P(Wire, Tshark, testing::Bool(),
                         [](const auto& param) { return param.param ? "Ipv6" : "Ipv4"; });

}  // namespace
}  // namespace flexins::wire
