#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "port/capture_port.h"
#include "port/fault_port.h"
#include "port/local_port.h"
#include "port/shm_port.h"
#include "support.h"

namespace flexins::port::testing {
namespace {

/// Two ends of a way; they may be one port.
struct Pair {
  std::vector<std::unique_ptr<ShmRingLayout>> rings;
  std::vector<std::unique_ptr<Port>> owned;
  Port* from = nullptr;
  Port* to = nullptr;
  wire::Path path;
  std::string skip;
};

Pair local_pair() {
  Pair pair;
  pair.path = {.source = loopback(0), .destination = loopback(0)};
  pair.owned.push_back(std::make_unique<LocalPort>());
  pair.from = pair.to = pair.owned[0].get();
  return pair;
}

Pair udp_pair(wire::IpAddress a, wire::IpAddress b, UdpPortConfig config) {
  Pair pair;
  pair.path = {.source = a, .destination = b};
  for (const wire::IpAddress& address : {a, b}) {
    if (!pair.owned.empty() && a == b) break;
    config.addresses = {address};
    auto port = UdpPort::open(config);
    if (!port) {
      pair.skip = port.error().message;
      return pair;
    }
    pair.owned.push_back(std::move(*port));
  }
  pair.from = pair.owned.front().get();
  pair.to = pair.owned.back().get();
  return pair;
}

Pair udp_v4() { return udp_pair(loopback(0), loopback(1), {}); }
Pair udp_v6() { return udp_pair(loopback_v6(), loopback_v6(), {}); }
Pair udp_without_icrc() {
  return udp_pair(loopback(0), loopback(1), {.addresses = {}, .icrc = false});
}
Pair udp_without_trains() {
  return udp_pair(loopback(0), loopback(1), {.addresses = {}, .segments_max = 1});
}
Pair udp_one_buffer() {
  return udp_pair(loopback(0), loopback(1), {.addresses = {}, .receive_buffers = 1});
}

/// Two ports with a way through shared memory between them, and UDP sockets beside it.
Pair shm_pair() {
  Pair pair = udp_v4();
  for (int i = 0; i < 2; ++i) pair.rings.push_back(std::make_unique<ShmRingLayout>());
  const auto add_way = [&](Port* inner, const wire::Path& path, size_t outgoing) {
    auto port = std::make_unique<ShmPort>(*inner);
    EXPECT_TRUE(port->add({.local = path.source,
                           .remote = path.destination,
                           .outgoing = pair.rings[outgoing].get(),
                           .incoming = pair.rings[1 - outgoing].get()})
                    .ok());
    return port;
  };
  auto from = add_way(pair.from, pair.path, 0);
  auto to = add_way(pair.to, {.source = pair.path.destination, .destination = pair.path.source}, 1);
  pair.from = from.get();
  pair.to = to.get();
  pair.owned.insert(pair.owned.begin(), std::move(from));
  pair.owned.insert(pair.owned.begin(), std::move(to));
  return pair;
}

/// Wraps both ends in a fault injector that is off and a capture that runs.
Pair wrapped(Pair pair) {
  std::vector<Port*> ends;
  const size_t inner = pair.owned.size();
  for (size_t i = 0; i < inner; ++i) {
    auto faults = std::make_unique<FaultPort>(*pair.owned[i]);
    EXPECT_TRUE(faults->set({}).ok());
    auto capture = std::make_unique<CapturePort>(*faults);
    EXPECT_TRUE(capture->start("/dev/null").ok());
    ends.push_back(capture.get());
    pair.owned.push_back(std::move(faults));
    pair.owned.push_back(std::move(capture));
  }
  // Wrappers go before what they wrap.
  std::reverse(pair.owned.begin(), pair.owned.end());
  pair.from = ends.front();
  pair.to = ends.back();
  return pair;
}
Pair wrapped_local() { return wrapped(local_pair()); }
Pair wrapped_udp() { return wrapped(udp_v4()); }

struct Kind {
  const char* name;
  Pair (*make)();
};

class Conformance : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    pair_ = GetParam().make();
    // Only the one IPv6 loopback address can be in another process's use.
    if (!pair_.skip.empty()) GTEST_SKIP() << pair_.skip;
  }

  void expect_in_order(const std::vector<Arrived>& arrived, std::span<wire::TxPacket> sent) {
    ASSERT_EQ(arrived.size(), sent.size());
    for (size_t i = 0; i < sent.size(); ++i) {
      EXPECT_EQ(arrived[i].psn, base::load_be<uint32_t>(&sent[i].header[8]));
      EXPECT_TRUE(arrived[i].has_pattern(sent[i].payload_length)) << "packet " << i;
      EXPECT_EQ(arrived[i].source, pair_.path.source);
      EXPECT_EQ(arrived[i].destination, pair_.path.destination);
    }
  }

  Pair pair_;
};

TEST_P(Conformance, CarriesEverySize) {
  Burst burst(pair_.path);
  for (uint32_t length = 0; length <= 4096; length += length < 70 ? 1 : 61) {
    burst.add(length, length);
  }
  burst.add(4096, 4096);
  expect_in_order(exchange(*pair_.from, *pair_.to, burst.span(), burst.span().size()),
                  burst.span());
}

TEST_P(Conformance, CarriesTrains) {
  for (const uint32_t length : {0u, 1u, 64u, 1000u, 1024u, 2048u, 4095u, 4096u}) {
    Burst burst(pair_.path);
    for (uint32_t psn = 0; psn < 300; ++psn) burst.add(psn, length);
    expect_in_order(exchange(*pair_.from, *pair_.to, burst.span(), 300), burst.span());
  }
}

TEST_P(Conformance, CarriesTrainsWithAShorterEnd) {
  Burst burst(pair_.path);
  for (uint32_t psn = 0; psn < 60; ++psn) burst.add(psn, psn % 6 == 5 ? 13 : 4096);
  expect_in_order(exchange(*pair_.from, *pair_.to, burst.span(), 60), burst.span());
}

TEST_P(Conformance, KeepsTheOrderOfMixedSizes) {
  Burst burst(pair_.path);
  for (uint32_t psn = 0; psn < 200; ++psn) burst.add(psn, psn * 2654435761u % 4097);
  expect_in_order(exchange(*pair_.from, *pair_.to, burst.span(), 200), burst.span());
}

TEST_P(Conformance, GathersManyPieces) {
  Burst burst(pair_.path);
  uint32_t psn = 0;
  for (const uint32_t pieces : {2u, 3u, 32u, 33u}) {
    for (const uint32_t length : {33u, 500u, 1024u, 1025u, 4096u, 4093u}) {
      for (int i = 0; i < 3; ++i) burst.add(psn++, length, pieces);
    }
  }
  expect_in_order(exchange(*pair_.from, *pair_.to, burst.span(), psn), burst.span());
}

TEST_P(Conformance, DropsAndCountsWhatIsCorrupt) {
  Burst burst(pair_.path);
  for (uint32_t psn = 0; psn < 40; ++psn) burst.add(psn, 1024).corrupt = psn % 10 == 3;
  const auto arrived = exchange(*pair_.from, *pair_.to, burst.span(), 36);
  ASSERT_EQ(arrived.size(), 36u);
  for (const Arrived& one : arrived) EXPECT_NE(one.psn % 10, 3u);
  const uint64_t wrong = count(*pair_.to, "icrc_wrong");
  uint64_t unsent = 0;
  for (const char* name : {"tx_corrupt", "shm_corrupt"}) {
    const uint64_t value = count(*pair_.from, name);
    if (value != UINT64_MAX) unsent += value;
  }
  EXPECT_EQ(wrong + unsent, 4u);
}

TEST_P(Conformance, ReceivesIntoSmallBursts) {
  Burst burst(pair_.path);
  for (uint32_t psn = 0; psn < 30; ++psn) burst.add(psn, 100);
  ASSERT_EQ(pair_.from->transmit(burst.span(), 0), 30u);
  std::vector<Arrived> all;
  wire::RxPacket one[1];
  for (int tries = 0; tries < 100000 && all.size() < 30; ++tries) {
    if (pair_.to->receive(one, 0) == 1) all.push_back(copy(one[0]));
  }
  expect_in_order(all, burst.span());
}

TEST_P(Conformance, ReceivesNothingWhenNothingWasSent) {
  wire::RxPacket burst[4];
  EXPECT_EQ(pair_.to->receive(burst, 0), 0u);
  EXPECT_EQ(pair_.from->transmit({}, 0), 0u);
}

TEST_P(Conformance, SaysWhatItHolds) {
  EXPECT_GE(pair_.to->capabilities().max_transport_bytes, 4096u + 64 + 7);
  EXPECT_GT(pair_.to->capabilities().receive_buffer_bytes, 0u);
}

INSTANTIATE_TEST_SUITE_P(
    Ports, Conformance,
    ::testing::Values(Kind{"local", local_pair}, Kind{"udp_v4", udp_v4}, Kind{"udp_v6", udp_v6},
                      Kind{"udp_without_icrc", udp_without_icrc},
                      Kind{"udp_without_trains", udp_without_trains},
                      Kind{"udp_one_buffer", udp_one_buffer}, Kind{"shm", shm_pair},
                      Kind{"wrapped_local", wrapped_local}, Kind{"wrapped_udp", wrapped_udp}),
    [](const auto& of) { return of.param.name; });

}  // namespace
}  // namespace flexins::port::testing
