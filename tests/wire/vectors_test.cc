#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "tests/wire/pcap.h"
#include "wire/headers.h"
#include "wire/icrc.h"
#include "wire/internet.h"

/// Everything that a Linux Soft-RoCE pair sent must be understood and reproduced to the last bit.

namespace flexins::wire {
namespace {

constexpr size_t kIcrcBytes = 4;

std::vector<std::filesystem::path> vector_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(FLEXINS_TEST_VECTORS)) {
    if (entry.path().extension() == ".pcap") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

struct Dissected {
  EthernetHeader ethernet;
  DatagramHeaders datagram;
  std::span<const std::byte> transport;
};

Dissected dissect(const Frame& frame) {
  Dissected d;
  EXPECT_TRUE(parse_ethernet(frame, d.ethernet));
  EXPECT_EQ(parse_datagram(std::span(frame).subspan(kEthernetBytes), d.datagram, d.transport),
            InternetError::kNone);
  EXPECT_EQ(d.datagram.destination_port, kRocePort);
  return d;
}

/// Runs `check` over every frame of every file.
template <typename Check>
void for_each_frame(Check check) {
  const auto files = vector_files();
  ASSERT_GE(files.size(), 40U);
  for (const auto& file : files) {
    const auto frames = read_pcap(file.string());
    ASSERT_FALSE(frames.empty()) << file;
    for (size_t i = 0; i < frames.size(); ++i) {
      SCOPED_TRACE(file.filename().string() + " frame " + std::to_string(i + 1));
      check(frames[i]);
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(Vectors, ReEmitGivesTheSameBytes) {
  std::set<Opcode> seen;
  for_each_frame([&seen](const Frame& frame) {
    const Dissected d = dissect(frame);
    Headers headers;
    size_t header_length = 0;
    const auto body = d.transport.first(d.transport.size() - kIcrcBytes);
    ASSERT_EQ(parse(body, 0, headers, header_length), ParseError::kNone);
    seen.insert(headers.bth.opcode);

    Frame again(frame.size());
    size_t at = emit_ethernet(d.ethernet, again);
    at += emit_datagram(d.datagram, std::span(again).subspan(at));
    const size_t transport_at = at;
    at += emit(headers, std::span(again).subspan(at));
    ASSERT_EQ(at - transport_at, header_length);
    const auto payload = body.subspan(header_length);
    std::copy(payload.begin(), payload.end(), again.begin() + static_cast<ptrdiff_t>(at));
    at += payload.size();
    uint32_t running = icrc_begin(outer_headers(d.datagram),
                                  std::span(again).subspan(transport_at, header_length));
    running = icrc_finish(icrc_add(running, payload));
    for (int shift = 0; shift < 32; shift += 8) {
      again[at++] = static_cast<std::byte>(running >> shift & 0xff);
    }
    ASSERT_EQ(at, frame.size());
    ASSERT_EQ(again, frame);
  });
  // Soft-RoCE has no XRC and sends no CNP; of the rest, the captures hold nearly all.
  EXPECT_GE(seen.size(), 30U);
}

TEST(Vectors, IcrcIsExactWithTheRealIdentification) {
  for_each_frame([](const Frame& frame) {
    const Dissected d = dissect(frame);
    uint16_t identification = 0xbeef;
    ASSERT_EQ(icrc_check(outer_headers(d.datagram), d.transport, identification),
              IcrcVerdict::kExact);
    ASSERT_EQ(identification, 0xbeef) << "unchanged unless it was found";
  });
}

TEST(Vectors, IcrcFindsAnUnknownIdentification) {
  for_each_frame([](const Frame& frame) {
    const Dissected d = dissect(frame);
    if (!d.datagram.destination.is_v4()) return;
    for (const bool dont_fragment : {true, false}) {
      OuterHeaders outer = outer_headers(d.datagram);
      const uint16_t real = outer.identification;
      outer.identification = static_cast<uint16_t>(~real);
      outer.dont_fragment = dont_fragment;
      uint16_t identification = 0;
      ASSERT_EQ(icrc_check(outer, d.transport, identification), IcrcVerdict::kPlausible);
      ASSERT_EQ(identification, real);
    }
  });
}

TEST(Vectors, FlippedByteIsWrong) {
  for_each_frame([](const Frame& frame) {
    const Dissected d = dissect(frame);
    std::vector<std::byte> packet(d.transport.begin(), d.transport.end());
    packet[packet.size() - kIcrcBytes - 1] ^= std::byte{0xff};
    OuterHeaders outer = outer_headers(d.datagram);
    uint16_t identification = 0;
    ASSERT_EQ(icrc_check(outer, packet, identification), IcrcVerdict::kWrong);
    outer.identification = 0;
    ASSERT_EQ(icrc_check(outer, packet, identification), IcrcVerdict::kWrong);
    ASSERT_EQ(identification, 0);
  });
}

TEST(Vectors, MaskedByteMayChange) {
  for_each_frame([](const Frame& frame) {
    const Dissected d = dissect(frame);
    std::vector<std::byte> packet(d.transport.begin(), d.transport.end());
    packet[4] ^= std::byte{0xc0};
    uint16_t identification = 0;
    ASSERT_EQ(icrc_check(outer_headers(d.datagram), packet, identification), IcrcVerdict::kExact);
  });
}

}  // namespace
}  // namespace flexins::wire
