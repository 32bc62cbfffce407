#include "port/fault_port.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "port/local_port.h"
#include "support.h"

namespace flexins::port::testing {
namespace {

constexpr uint32_t kPackets = 20000;

class Faults : public ::testing::Test {
 protected:
  /// Sends kPackets in bursts of 50 at 1 µs each; returns their PSNs as they arrived.
  std::vector<uint32_t> run(const FaultConfig& config) {
    LocalPort local(256);
    FaultPort port(local);
    EXPECT_TRUE(port.set(config).ok());
    std::vector<uint32_t> psns;
    Burst burst({.source = loopback(0), .destination = loopback(0)});
    base::TimeNs now = 0;
    for (uint32_t psn = 0; psn < kPackets;) {
      burst.clear();
      for (int i = 0; i < 50; ++i) burst.add(psn++, 64);
      auto left = burst.span();
      while (!left.empty()) {
        left = left.subspan(port.transmit(left, now));
        receive_into(port, now, psns);
      }
      now += 50 * base::kMicrosecond;
    }
    while (port.next_event() != base::kNever) {
      now = std::max(now, port.next_event());
      EXPECT_EQ(port.transmit({}, now), 0u);
      receive_into(port, now, psns);
    }
    counters_ = port.counters();
    return psns;
  }

  void receive_into(Port& port, base::TimeNs now, std::vector<uint32_t>& psns) {
    wire::RxPacket burst[32];
    while (const size_t n = port.receive(burst, now)) {
      for (size_t i = 0; i < n; ++i) {
        const Arrived one = copy(burst[i]);
        EXPECT_TRUE(one.has_pattern(64));
        psns.push_back(one.psn);
      }
    }
  }

  uint64_t counted(std::string_view name) {
    for (const Counter& counter : counters_) {
      if (counter.name == name) return counter.value;
    }
    return UINT64_MAX;
  }

  /// Within five standard deviations of what `probability` leads to expect.
  static void expect_rate(uint64_t got, double probability) {
    const double expected = kPackets * probability;
    EXPECT_NEAR(static_cast<double>(got), expected, 5 * std::sqrt(expected));
  }

  std::vector<Counter> counters_;
};

TEST_F(Faults, NoneChangeNothing) {
  const auto psns = run({});
  ASSERT_EQ(psns.size(), kPackets);
  EXPECT_TRUE(std::is_sorted(psns.begin(), psns.end()));
}

TEST_F(Faults, LossLosesAtItsRate) {
  const auto psns = run({.loss = 0.01});
  EXPECT_EQ(psns.size() + counted("fault_lost"), kPackets);
  expect_rate(counted("fault_lost"), 0.01);
  EXPECT_TRUE(std::is_sorted(psns.begin(), psns.end()));
}

TEST_F(Faults, LossOfAllLosesAll) { EXPECT_TRUE(run({.loss = 1}).empty()); }

TEST_F(Faults, DuplicationDoublesAtItsRate) {
  const auto psns = run({.duplication = 0.02});
  EXPECT_EQ(psns.size(), kPackets + counted("fault_duplicated"));
  expect_rate(counted("fault_duplicated"), 0.02);
  EXPECT_TRUE(std::is_sorted(psns.begin(), psns.end()));
}

TEST_F(Faults, ReorderingKeepsEveryPacketAndMovesSome) {
  auto psns = run({.reordering = 0.05});
  ASSERT_EQ(psns.size(), kPackets);
  expect_rate(counted("fault_reordered"), 0.05);
  uint64_t overtaken = 0;
  for (size_t i = 1; i < psns.size(); ++i) overtaken += psns[i] < psns[i - 1];
  EXPECT_GT(overtaken, counted("fault_reordered") / 2);
  for (size_t i = 0; i < psns.size(); ++i) {
    EXPECT_LE(std::abs(static_cast<double>(psns[i]) - static_cast<double>(i)), 64) << i;
  }
  std::sort(psns.begin(), psns.end());
  for (uint32_t i = 0; i < kPackets; ++i) ASSERT_EQ(psns[i], i);
}

TEST_F(Faults, CorruptionIsCaughtAtItsRate) {
  const auto psns = run({.corruption = 0.03});
  EXPECT_EQ(psns.size() + counted("icrc_wrong"), kPackets);
  EXPECT_EQ(counted("icrc_wrong"), counted("fault_corrupted"));
  expect_rate(counted("fault_corrupted"), 0.03);
}

TEST_F(Faults, DelayKeepsEveryPacket) {
  auto psns = run({.delay = 0.05});
  ASSERT_EQ(psns.size(), kPackets);
  EXPECT_FALSE(std::is_sorted(psns.begin(), psns.end()));
  EXPECT_EQ(counted("fault_no_room"), 0u);
  expect_rate(counted("fault_delayed"), 0.05);
}

TEST_F(Faults, StorageIsBounded) {
  const auto psns = run({.delay = 1, .delay_min_ns = base::kSecond, .delay_max_ns = base::kSecond});
  EXPECT_EQ(psns.size(), kPackets);
  EXPECT_EQ(counted("fault_delayed"), FaultPort::kSlots);
  EXPECT_EQ(counted("fault_no_room"), kPackets - FaultPort::kSlots);
}

TEST_F(Faults, TheSameSeedDoesTheSame) {
  FaultConfig config = {.loss = 0.01,
                        .duplication = 0.01,
                        .reordering = 0.05,
                        .corruption = 0.01,
                        .delay = 0.01,
                        .seed = 7};
  const auto first = run(config);
  EXPECT_EQ(run(config), first);
  config.seed = 8;
  EXPECT_NE(run(config), first);
}

TEST_F(Faults, DelayTakesItsTime) {
  LocalPort local;
  FaultPort port(local);
  ASSERT_TRUE(port.set({.delay = 1, .delay_min_ns = 500, .delay_max_ns = 500}).ok());
  EXPECT_EQ(port.next_event(), base::kNever);
  Burst burst({.source = loopback(0), .destination = loopback(0)});
  burst.add(1, 100);
  ASSERT_EQ(port.transmit(burst.span(), 1000), 1u);
  burst.clear();  // the port keeps no reference to a held packet
  wire::RxPacket received[4];
  EXPECT_EQ(port.next_event(), 1500u);
  EXPECT_EQ(port.receive(received, 1499), 0u);
  ASSERT_EQ(port.receive(received, 1500), 1u);
  EXPECT_TRUE(copy(received[0]).has_pattern(100));
  EXPECT_EQ(port.next_event(), base::kNever);
}

TEST_F(Faults, CanBeSwitchedOffWithPacketsHeld) {
  LocalPort local;
  FaultPort port(local);
  ASSERT_TRUE(port.set({.reordering = 1}).ok());
  Burst burst({.source = loopback(0), .destination = loopback(0)});
  burst.add(1, 100);
  ASSERT_EQ(port.transmit(burst.span(), 0), 1u);
  ASSERT_TRUE(port.set({}).ok());
  Burst more({.source = loopback(0), .destination = loopback(0)});
  more.add(2, 100);
  ASSERT_EQ(port.transmit(more.span(), 10), 1u);
  wire::RxPacket received[4];
  ASSERT_EQ(port.receive(received, 10), 1u);
  EXPECT_EQ(copy(received[0]).psn, 2u);
  ASSERT_EQ(port.receive(received, port.next_event()), 1u);
  EXPECT_EQ(copy(received[0]).psn, 1u);
}

TEST_F(Faults, NonsenseIsRefused) {
  LocalPort local;
  FaultPort port(local);
  EXPECT_EQ(port.set({.loss = 1.5}).error().code, EINVAL);
  EXPECT_EQ(port.set({.delay = -0.1}).error().code, EINVAL);
  EXPECT_EQ(port.set({.reordering = std::nan("")}).error().code, EINVAL);
  EXPECT_EQ(port.set({.delay_min_ns = 2, .delay_max_ns = 1}).error().code, EINVAL);
  EXPECT_EQ(port.config().loss, 0);
}

TEST_F(Faults, CorruptUdpPacketsFailTheirIcrc) {
  UdpPortConfig config;
  config.addresses = {loopback(0)};
  auto udp = UdpPort::open(config);
  ASSERT_TRUE(udp.ok());
  FaultPort port(**udp);
  ASSERT_TRUE(port.set({.corruption = 0.2}).ok());
  Burst burst({.source = loopback(0), .destination = loopback(0)});
  for (uint32_t psn = 0; psn < 500; ++psn) burst.add(psn, psn % 3 == 0 ? 4096 : 60);
  std::vector<Arrived> all;
  auto left = burst.span();
  while (!left.empty()) {
    const auto some = left.first(std::min<size_t>(left.size(), 20));
    left = left.subspan(port.transmit(some, 0));
    for (Arrived& one : receive_all(port, 0)) all.push_back(std::move(one));
  }
  EXPECT_GT(count(port, "fault_corrupted"), 50u);
  EXPECT_EQ(count(port, "icrc_wrong"), count(port, "fault_corrupted"));
  EXPECT_EQ(all.size(), 500 - count(port, "fault_corrupted"));
}

}  // namespace
}  // namespace flexins::port::testing
