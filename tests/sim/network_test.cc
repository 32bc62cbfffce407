#include <gtest/gtest.h>

#include <vector>

#include "sim/fabric.h"

/// The virtual clock and the network.

namespace flexins::sim {
namespace {

struct Recorder final : Actor {
  void on_event(uint64_t what, base::TimeNs now) override { seen.emplace_back(what, now); }
  std::vector<std::pair<uint64_t, base::TimeNs>> seen;
};

TEST(EventQueue, KeepsTheOrderOfAskingWithinAnInstant) {
  EventQueue events;
  Recorder recorder;
  events.at(20, recorder, 1);
  events.at(10, recorder, 2);
  events.at(20, recorder, 3);
  events.at(10, recorder, 4);
  while (events.next() != base::kNever) events.run_one();
  const std::vector<std::pair<uint64_t, base::TimeNs>> expected = {
      {2, 10}, {4, 10}, {1, 20}, {3, 20}};
  EXPECT_EQ(recorder.seen, expected);
}

TEST(Random, ForksDoNotDependOnWhatWasDrawn) {
  Random a(5);
  Random b(5);
  static_cast<void>(a.next());
  EXPECT_EQ(a.fork("loss", 3).next(), b.fork("loss", 3).next());
  EXPECT_NE(a.fork("loss", 3).next(), b.fork("loss", 4).next());
}

struct Sink final : Node {
  explicit Sink(Fabric& owner) : fabric(owner) {}
  void arrive(Frame* frame, Link&, base::TimeNs now) override {
    times.push_back(now);
    marked += (frame->traffic_class & 3) == 3 ? 1 : 0;
    fabric.pool().give(frame);
  }
  Fabric& fabric;
  std::vector<base::TimeNs> times;
  uint64_t marked = 0;
};

struct Network {
  explicit Network(const Scenario& from) : scenario(from) {
    for (uint32_t host = 0; host < scenario.hosts; ++host) {
      sinks.push_back(std::make_unique<Sink>(fabric));
      fabric.attach(host, *sinks.back());
    }
  }
  void send(uint16_t from, uint32_t to, uint32_t bytes = 1000) {
    Frame* frame = fabric.pool().take();
    frame->source = Fabric::address(from, false);
    frame->destination = Fabric::address(to, false);
    frame->from_host = from;
    frame->length = bytes;
    frame->traffic_class = 2;
    frame->seal();
    fabric.send(frame);
  }
  void run() {
    while (events.next() != base::kNever) events.run_one();
  }
  Scenario scenario;
  EventQueue events;
  FaultCounts faults;
  Trace trace;
  Fabric fabric{events, scenario, faults, trace, nullptr};
  std::vector<std::unique_ptr<Sink>> sinks;
};

Scenario three_hosts() {
  Scenario scenario;
  scenario.hosts = 3;
  scenario.link = {1'000'000'000, 500, 16'000, 0};
  return scenario;
}

TEST(Fabric, TakesAsLongAsTheBitsAndTheCable) {
  Network network(three_hosts());
  network.send(0, 1);
  network.run();
  const base::TimeNs bits_ns = (1000 + kOuterBytes) * 8;
  ASSERT_EQ(network.sinks[1]->times.size(), 1u);
  EXPECT_EQ(network.sinks[1]->times[0], 2 * (bits_ns + 500));
}

TEST(Fabric, DropsWhatAQueueDoesNotHold) {
  Network network(three_hosts());
  // Two senders of as much as their own queues hold to one receiver.
  for (int i = 0; i < 15; ++i) {
    network.send(0, 2, 1200);
    network.send(1, 2, 1200);
  }
  network.run();
  EXPECT_GT(network.fabric.counters().tail_drops, 0u);
  EXPECT_EQ(network.sinks[2]->times.size() + network.fabric.counters().tail_drops, 30u);
  EXPECT_EQ(network.fabric.pool().in_use(), 0u);
}

TEST(Fabric, PauseKeepsAllThatDropWouldLose) {
  Scenario scenario = three_hosts();
  scenario.lossless = true;
  scenario.link.queue_bytes = 2'000'000;
  Network network(scenario);
  for (int i = 0; i < 600; ++i) {
    network.send(0, 2);
    network.send(1, 2);
  }
  network.run();
  EXPECT_GT(network.fabric.counters().pauses, 0u);
  EXPECT_EQ(network.fabric.counters().tail_drops, 0u);
  EXPECT_EQ(network.sinks[2]->times.size(), 1200u);
}

TEST(Fabric, MarksWhatMeetsALongQueue) {
  Scenario scenario = three_hosts();
  scenario.link.ecn_bytes = 5'000;
  Network network(scenario);
  for (int i = 0; i < 10; ++i) {
    network.send(0, 2);
    network.send(1, 2);
  }
  network.run();
  EXPECT_GT(network.sinks[2]->marked, 0u);
  EXPECT_LT(network.sinks[2]->marked, 20u);
}

TEST(Fabric, LosesDoublesAndDelaysAsPlanned) {
  Scenario scenario = three_hosts();
  scenario.link.queue_bytes = 10'000'000;
  scenario.faults[FaultKind::kLoss] = 0.1;
  scenario.faults[FaultKind::kDuplication] = 0.1;
  scenario.faults[FaultKind::kReordering] = 0.1;
  Network network(scenario);
  for (int i = 0; i < 1000; ++i) network.send(0, 1);
  network.run();
  const uint64_t lost = network.faults[FaultKind::kLoss];
  const uint64_t doubled = network.faults[FaultKind::kDuplication];
  EXPECT_GT(lost, 50u);
  EXPECT_GT(doubled, 50u);
  EXPECT_GT(network.faults[FaultKind::kReordering], 50u);
  EXPECT_EQ(network.sinks[1]->times.size(), 1000 - lost + doubled);
  EXPECT_GE(network.fabric.disturbances(0, 1), lost + doubled);
}

TEST(Frame, AChangedBitIsSeen) {
  Frame frame;
  frame.source = Fabric::address(0, false);
  frame.destination = Fabric::address(1, false);
  frame.length = 300;
  frame.bytes.fill(std::byte{7});
  frame.seal();
  EXPECT_TRUE(frame.intact());
  frame.bytes[200] ^= std::byte{4};
  EXPECT_FALSE(frame.intact());
}

}  // namespace
}  // namespace flexins::sim
