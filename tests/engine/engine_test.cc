#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "harness.h"

namespace flexins::engine::testing {
namespace {

using base::WcStatus;
using base::WrOpcode;

uint64_t counter(const Engine& engine, std::string_view name) {
  for (const port::Counter& c : engine.info().counters) {
    if (c.name == name) return c.value;
  }
  ADD_FAILURE() << "no counter " << name;
  return 0;
}

std::vector<uint8_t> pattern(size_t bytes) {
  std::vector<uint8_t> data(bytes);
  std::iota(data.begin(), data.end(), 3);
  return data;
}

/// An application on each host, one QP each, connected.
struct Pair {
  World world;
  Application client{world.a};
  Application server{world.b};
  Endpoint left = client.create_qp();
  Endpoint right = server.create_qp();
  std::vector<uint8_t> source = pattern(300'000);
  std::vector<uint8_t> sink = std::vector<uint8_t>(300'000);
  base::MemoryKey source_key = client.register_memory(source.data(), source.size());
  base::MemoryKey sink_key = server.register_memory(sink.data(), sink.size());

  Pair() {
    client.connect(left, world.b.address, right.qpn);
    server.connect(right, world.a.address, left.qpn);
  }
  base::Sge from_source(uint32_t length) {
    return {reinterpret_cast<uint64_t>(source.data()), length, source_key.value};
  }
  uint64_t to_sink() { return reinterpret_cast<uint64_t>(sink.data()); }
};

TEST(Engine, WriteCrossesTheWire) {
  Pair p;
  p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(300'000), p.to_sink(),
                p.sink_key.value, 5);
  p.world.run();
  const auto done = p.client.poll();
  EXPECT_EQ(done.status, 0);
  EXPECT_EQ(done.wr_id, 5u);
  EXPECT_EQ(done.retired, 1u);
  EXPECT_EQ(p.source, p.sink);
}

TEST(Engine, SendMeetsReceive) {
  Pair p;
  const base::Sge into[] = {{p.to_sink(), 100, p.sink_key.value},
                            {p.to_sink() + 100, 5000, p.sink_key.value}};
  p.right.receives.write(42, into);
  p.right.receives.publish();
  p.client.post(p.left.qpn, WrOpcode::kSend, p.from_source(5000), 0, 0, 6);
  p.world.run();
  EXPECT_EQ(p.client.poll().status, 0);
  const auto received = p.server.poll();
  EXPECT_EQ(received.status, 0);
  EXPECT_EQ(received.wr_id, 42u);
  EXPECT_EQ(received.byte_length, 5000u);
  EXPECT_TRUE(std::equal(p.sink.begin(), p.sink.begin() + 5000, p.source.begin()));
}

TEST(Engine, ReadComesBack) {
  Pair p;
  std::vector<uint8_t> fetched(200'000);
  const auto key = p.client.register_memory(fetched.data(), fetched.size());
  p.sink = pattern(300'000);
  const auto again = p.server.register_memory(p.sink.data(), p.sink.size());
  p.client.post(p.left.qpn, WrOpcode::kRdmaRead,
                {reinterpret_cast<uint64_t>(fetched.data()), 200'000, key.value},
                reinterpret_cast<uint64_t>(p.sink.data()), again.value, 9);
  p.world.run();
  EXPECT_EQ(p.client.poll().status, 0);
  EXPECT_TRUE(std::equal(fetched.begin(), fetched.end(), p.sink.begin()));
}

TEST(Engine, AQpTalksToItself) {
  World world;
  Application app(world.a);
  Endpoint self = app.create_qp();
  app.connect(self, world.a.address, self.qpn);
  auto source = pattern(50'000);
  std::vector<uint8_t> sink(50'000);
  const auto from = app.register_memory(source.data(), source.size());
  const auto to = app.register_memory(sink.data(), sink.size());
  const base::Sge into[] = {{reinterpret_cast<uint64_t>(sink.data()), 50'000, to.value}};
  self.receives.write(2, into);
  self.receives.publish();
  app.post(self.qpn, WrOpcode::kSend,
           {reinterpret_cast<uint64_t>(source.data()), 50'000, from.value}, 0, 0, 1);
  world.run();
  const uint64_t first = app.poll().wr_id;
  const uint64_t second = app.poll().wr_id;
  EXPECT_EQ(first + second, 3u);
  EXPECT_EQ(source, sink);
}

TEST(Engine, TwoQpsOfOneEngineTalk) {
  World world;
  Application app(world.a);
  Endpoint left = app.create_qp();
  Endpoint right = app.create_qp();
  app.connect(left, world.a.address, right.qpn);
  app.connect(right, world.a.address, left.qpn);
  auto source = pattern(100'000);
  std::vector<uint8_t> sink(100'000);
  const auto from = app.register_memory(source.data(), source.size());
  const auto to = app.register_memory(sink.data(), sink.size());
  app.post(left.qpn, WrOpcode::kRdmaWrite,
           {reinterpret_cast<uint64_t>(source.data()), 100'000, from.value},
           reinterpret_cast<uint64_t>(sink.data()), to.value, 1);
  world.run();
  EXPECT_EQ(app.poll().status, 0);
  EXPECT_EQ(source, sink);
  EXPECT_EQ(world.a.network.transmitted, 0u);
}

TEST(Engine, RevokedRegionRefusesThePeer) {
  Pair p;
  ASSERT_TRUE(p.world.b.engine->deregister_region(p.server.context, p.sink_key).ok());
  p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(10), p.to_sink(), p.sink_key.value,
                1);
  p.world.run();
  EXPECT_EQ(p.client.poll().status, static_cast<int>(WcStatus::kRemoteAccess));
  EXPECT_EQ(p.sink[0], 0);
}

TEST(Engine, ReceivesPostedInErrorAreFlushedByAKick) {
  Pair p;
  base::QpAttributes error;
  error.state = base::QpState::kError;
  ASSERT_TRUE(p.server.modify(p.right.qpn, error, base::kQpState).ok());
  const base::Sge into[] = {{p.to_sink(), 100, p.sink_key.value}};
  p.right.receives.write(42, into);
  p.right.receives.publish();
  ASSERT_TRUE(p.right.receives.needs_kick());
  pipe::SubmissionSlot& slot = p.server.producer.slot(0);
  slot.qpn = p.right.qpn.value;
  slot.kind = static_cast<uint8_t>(pipe::SubmissionKind::kReceiveKick);
  slot.slot_count = 1;
  p.server.producer.publish(1);
  p.world.run();
  const auto flushed = p.server.poll();
  EXPECT_EQ(flushed.wr_id, 42u);
  EXPECT_EQ(flushed.status, static_cast<int>(WcStatus::kWrFlush));
}

TEST(Engine, OneEventPerArm) {
  Pair p;
  p.client.consumer.arm(false);
  for (uint64_t i = 0; i < 3; ++i) {
    p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(8), p.to_sink(), p.sink_key.value,
                  i);
  }
  p.world.run();
  EXPECT_THAT(p.client.events.completions,
              ::testing::ElementsAre(::testing::Pair(p.client.channel.value, 77u)));
}

TEST(Engine, OverrunKillsTheCqAndItsQpsOnly) {
  Pair p;
  Application other(p.world.a);
  Endpoint mine = other.create_qp();
  // Three QPs' worth of completions into a ring that nobody polls.
  for (int round = 0; round < 5; ++round) {
    for (uint64_t i = 0; i < 60; ++i) {
      p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(8), p.to_sink(),
                    p.sink_key.value, i);
    }
    p.world.run();
  }
  EXPECT_TRUE(p.client.consumer.overflowed());
  EXPECT_EQ(counter(*p.world.a.engine, "cq_overruns"), 1u);
  EXPECT_THAT(p.client.events.async,
              ::testing::ElementsAre(::testing::Pair(77u, base::AsyncEvent::kCqError),
                                     ::testing::Pair(99u, base::AsyncEvent::kQpFatal)));
  EXPECT_EQ(p.world.a.engine->query_qp(p.client.context, p.left.qpn)->state, base::QpState::kError);
  EXPECT_EQ(p.world.a.engine->query_qp(other.context, mine.qpn)->state, base::QpState::kReset);
}

TEST(Engine, SubmissionsForAnotherApplicationsQpAreCounted) {
  Pair p;
  Application thief(p.world.a);
  thief.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(8), p.to_sink(), p.sink_key.value, 1);
  p.world.run();
  EXPECT_EQ(counter(*p.world.a.engine, "submission_bad_qpn"), 1u);
  EXPECT_EQ(p.sink[0], 0);
}

TEST(Engine, GarbageInTheSubmissionRingIsCountedAndNothingElse) {
  Pair p;
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    pipe::SubmissionSlot& slot = p.client.producer.slot(0);
    auto* bytes = reinterpret_cast<uint8_t*>(&slot);
    for (size_t b = 0; b < 60; ++b) bytes[b] = static_cast<uint8_t>(random());
    if (i % 2 == 0) slot.qpn = p.left.qpn.value;
    if (i % 4 == 0) slot.kind = 0;
    slot.slot_count = static_cast<uint8_t>(1 + random() % 10);
    if (!p.client.producer.has_room(slot.slot_count)) p.world.run();
    p.client.producer.publish(slot.slot_count);
    p.world.run();
    while (p.client.poll().status >= 0) {
    }
  }
  EXPECT_GT(counter(*p.world.a.engine, "submission_bad_qpn"), 100u);
  EXPECT_GT(counter(*p.world.a.engine, "submission_bad_length"), 10u);
  // The other application on this engine goes on as before.
  Application other(p.world.a);
  Endpoint mine = other.create_qp();
  other.connect(mine, p.world.a.address, mine.qpn);
  std::vector<uint8_t> sink(100);
  const auto from = other.register_memory(p.source.data(), 100);
  const auto to = other.register_memory(sink.data(), 100);
  other.post(mine.qpn, WrOpcode::kRdmaWrite,
             {reinterpret_cast<uint64_t>(p.source.data()), 100, from.value},
             reinterpret_cast<uint64_t>(sink.data()), to.value, 1);
  p.world.run();
  EXPECT_EQ(other.poll().status, 0);
}

TEST(Engine, GarbageFromTheWireIsCountedByReason) {
  Pair p;
  std::mt19937 random(11);
  for (int i = 0; i < 3000; ++i) {
    FlatPacket packet;
    packet.source = p.world.a.address;
    packet.bytes.resize(random() % 80);
    for (auto& b : packet.bytes) b = static_cast<std::byte>(random());
    p.world.b.network.inbox.push_back(packet);
  }
  p.world.run();
  const Engine& engine = *p.world.b.engine;
  EXPECT_EQ(counter(engine, "packets_received"), 3000u);
  EXPECT_GT(counter(engine, "drop_malformed"), 0u);
  EXPECT_GT(counter(engine, "drop_unknown_opcode"), 0u);
  p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(8), p.to_sink(), p.sink_key.value,
                1);
  p.world.run();
  EXPECT_EQ(p.client.poll().status, 0);
}

TEST(Engine, ClosingAContextLeavesNothing) {
  Pair p;
  p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(300'000), p.to_sink(),
                p.sink_key.value, 5);
  p.world.a.engine->step(0);  // mid-transfer
  p.world.a.engine->close_context(p.client.context);
  p.world.run();
  const EngineInfo info = p.world.a.engine->info();
  EXPECT_TRUE(info.contexts.empty());
  EXPECT_TRUE(info.qps.empty());
  EXPECT_TRUE(info.regions.empty());
}

TEST(Engine, PeerOfAClosedContextRunsIntoRetryExceeded) {
  Pair p;
  p.world.b.engine->close_context(p.server.context);
  p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(8), p.to_sink(), p.sink_key.value,
                1);
  p.world.run(100);
  EXPECT_EQ(p.client.poll().status, static_cast<int>(WcStatus::kRetryExceeded));
}

TEST(Engine, ALostLastAcknowledgementIsGivenAgainAfterTheQpIsGone) {
  Pair p;
  const base::Sge into[] = {{p.to_sink(), 100, p.sink_key.value}};
  p.right.receives.write(42, into);
  p.right.receives.publish();
  p.client.post(p.left.qpn, WrOpcode::kSend, p.from_source(100), 0, 0, 1);
  p.world.a.engine->step(p.world.now);
  p.world.b.engine->step(p.world.now);
  ASSERT_EQ(p.server.poll().status, 0);
  p.world.a.network.inbox.clear();  // the acknowledgement
  p.world.b.engine->close_context(p.server.context);
  p.client.post(p.left.qpn, WrOpcode::kSend, p.from_source(100), 0, 0, 2);
  p.world.run(100);
  EXPECT_EQ(p.client.poll().status, 0) << "it had been received";
  EXPECT_EQ(p.client.poll().status, static_cast<int>(WcStatus::kRetryExceeded)) << "it had not";
  EXPECT_GE(counter(*p.world.b.engine, "departed_answers"), 1u);
}

TEST(Engine, ABusyPortTakesTheTrainInPieces) {
  Pair p;
  p.world.a.network.accept_at_most = 3;
  p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(300'000), p.to_sink(),
                p.sink_key.value, 5);
  p.world.run(2000);
  EXPECT_EQ(p.client.poll().status, 0);
  EXPECT_EQ(p.source, p.sink);
}

TEST(Engine, WhatWaitsOnABusyPortOutlivesItsRegistration) {
  Pair p;
  const std::vector<uint8_t> sent = p.source;
  p.world.a.network.accept_at_most = 0;
  p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(2000), p.to_sink(),
                p.sink_key.value, 5);
  p.world.a.engine->step(1);
  ASSERT_TRUE(p.world.a.engine->deregister_region(p.client.context, p.source_key).ok());
  // From now on the program may do with its memory what it likes.
  std::fill(p.source.begin(), p.source.end(), uint8_t{0xee});
  p.world.a.network.accept_at_most = SIZE_MAX;
  p.world.run();
  EXPECT_EQ(p.client.poll().status, 0) << "without any retry";
  EXPECT_TRUE(std::equal(sent.begin(), sent.begin() + 2000, p.sink.begin()));
  EXPECT_EQ(counter(*p.world.a.engine, "drop_withdrawn"), 0u);
}

TEST(Engine, AQueuePairThatGoesTakesNobodyElsesPackets) {
  Pair p;
  const Endpoint other = p.client.create_qp();
  Application stranger(p.world.a);
  const Endpoint others = stranger.create_qp();
  p.world.a.network.accept_at_most = 0;
  p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, p.from_source(2000), p.to_sink(),
                p.sink_key.value, 5);
  p.world.a.engine->step(1);
  ASSERT_TRUE(p.world.a.engine->destroy_qp(p.client.context, other.qpn).ok());
  p.world.a.engine->close_context(stranger.context);
  p.world.a.network.accept_at_most = SIZE_MAX;
  p.world.run();
  EXPECT_EQ(p.client.poll().status, 0) << "without any retry";
  EXPECT_EQ(counter(*p.world.a.engine, "drop_withdrawn"), 0u);
}

TEST(Engine, ObjectsInUseAreBusy) {
  Pair p;
  Engine& engine = *p.world.a.engine;
  EXPECT_EQ(engine.free_pd(p.client.context, p.client.pd).error().code, EBUSY);
  EXPECT_EQ(engine.destroy_cq(p.client.context, p.client.cq).error().code, EBUSY);
  EXPECT_EQ(engine.destroy_channel(p.client.context, p.client.channel).error().code, EBUSY);
  const Application stranger(p.world.a);
  EXPECT_EQ(engine.destroy_qp(stranger.context, p.left.qpn).error().code, ENOENT);
  EXPECT_TRUE(engine.destroy_qp(p.client.context, p.left.qpn).ok());
  EXPECT_TRUE(engine.deregister_region(p.client.context, p.source_key).ok());
  EXPECT_TRUE(engine.free_pd(p.client.context, p.client.pd).ok());
  EXPECT_TRUE(engine.destroy_cq(p.client.context, p.client.cq).ok());
  EXPECT_TRUE(engine.destroy_channel(p.client.context, p.client.channel).ok());
}

}  // namespace
}  // namespace flexins::engine::testing
