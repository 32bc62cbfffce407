#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "harness.h"

/// Shared receive queues: whose entry a message takes, and what is said of it.

namespace flexins::engine::testing {
namespace {

using base::AsyncEvent;
using base::WrOpcode;

constexpr uint32_t kDepth = 8;
constexpr uint64_t kSrqCookie = 55;

/// Two QPs of the server share one SRQ; the client has one QP to each.
struct SharedPair {
  World world;
  Application client{world.a};
  Application server{world.b};
  Ring ring{pipe::receive_ring_bytes(kDepth, 4)};
  pipe::ReceiveProducer receives{ring.data(), kDepth, 4};
  base::Srqn srq = make_srq();
  Endpoint left[2] = {client.create_qp(), client.create_qp()};
  Endpoint right[2] = {server.create_qp(64, srq), server.create_qp(64, srq)};
  std::vector<uint8_t> bytes = std::vector<uint8_t>(1000, 7);
  std::vector<uint8_t> sink = std::vector<uint8_t>(1000);
  base::MemoryKey source_key = client.register_memory(bytes.data(), bytes.size());
  base::MemoryKey sink_key = server.register_memory(sink.data(), sink.size());

  SharedPair() {
    for (int i : {0, 1}) {
      client.connect(left[i], world.b.address, right[i].qpn);
      server.connect(right[i], world.a.address, left[i].qpn);
    }
  }
  base::Srqn make_srq() {
    CreateSrq request;
    request.pd = server.pd;
    request.cookie = kSrqCookie;
    request.max_wr = kDepth;
    request.max_sge = 4;
    return world.b.engine->create_srq(server.context, request, ring.get()).value();
  }
  void receive(uint64_t wr_id) {
    const base::Sge into{reinterpret_cast<uint64_t>(sink.data()), 1000, sink_key.value};
    receives.write(wr_id, {&into, 1});
    receives.publish();
  }
  void send(int which, uint64_t wr_id) {
    client.post(left[which].qpn, WrOpcode::kSend,
                {reinterpret_cast<uint64_t>(bytes.data()), 10, source_key.value}, 0, 0, wr_id);
  }
};

TEST(SharedReceives, GoOnInAnotherRing) {
  SharedPair p;
  for (uint64_t i = 0; i < kDepth; ++i) p.receive(10 + i);
  p.send(0, 1);
  p.world.run();
  Engine& engine = *p.world.b.engine;
  Ring larger(pipe::receive_ring_bytes(32, 4)), smaller(pipe::receive_ring_bytes(4, 4));
  const auto resize = [&](uint32_t max_wr, Ring& ring) {
    return engine.resize_srq(p.server.context, p.srq, max_wr, ring.get());
  };
  EXPECT_EQ(resize(4, smaller).error().code, EINVAL) << "seven are posted";
  ASSERT_TRUE(resize(32, larger).ok());
  std::memset(p.ring.data(), 0xff, pipe::receive_ring_bytes(kDepth, 4));  // nobody looks there
  p.receives = pipe::ReceiveProducer(larger.data(), 32, 4, p.receives.position());
  EXPECT_EQ(p.receives.consumed(), 1u);
  for (uint64_t i = 0; i < 20; ++i) p.receive(10 + kDepth + i);
  for (uint64_t i = 1; i < 28; ++i) {
    p.send(static_cast<int>(i % 2), i);
    p.world.run();
    for (Done done = p.server.poll(); done.status != -1; done = p.server.poll()) {
      EXPECT_EQ(done.status, 0);
      if (done.wr_id != 10) {
        EXPECT_EQ(done.wr_id, 10 + i);
      }
    }
  }
  EXPECT_TRUE(engine.arm_srq(p.server.context, p.srq, 5).ok());
  EXPECT_EQ(resize(4, smaller).error().code, EINVAL) << "the limit is larger";
  EXPECT_TRUE(engine.arm_srq(p.server.context, p.srq, 0).ok());
  EXPECT_TRUE(resize(4, smaller).ok());
  EXPECT_EQ(resize(0, smaller).error().code, EINVAL);
}

TEST(SharedReceives, ServeWhicheverQpAsks) {
  SharedPair p;
  for (uint64_t i = 0; i < 4; ++i) p.receive(10 + i);
  p.send(1, 1);
  p.world.run();
  p.send(0, 2);
  p.world.run();
  EXPECT_EQ(p.server.poll().wr_id, 10u);
  EXPECT_EQ(p.server.poll().wr_id, 11u);
  EXPECT_EQ(p.receives.consumed(), 2u);
}

TEST(SharedReceives, AreNeverEmptyForLong) {
  SharedPair p;
  uint64_t posted = 0;
  for (int round = 0; round < 50; ++round) {
    while (posted - p.receives.consumed() < kDepth) p.receive(posted++);
    for (int i = 0; i < 6; ++i) p.send(i % 2, 1);
    p.world.run(2);
    for (int i = 0; i < 6; ++i) EXPECT_EQ(p.server.poll().status, 0);
    for (int i = 0; i < 6; ++i) EXPECT_EQ(p.client.poll().status, 0);
  }
}

TEST(SharedReceives, AnEmptyOneMakesTheSenderWait) {
  SharedPair p;
  p.send(0, 1);
  p.world.run();
  EXPECT_EQ(p.client.poll().status, -1);
  p.receive(5);
  p.world.run(4);
  EXPECT_EQ(p.client.poll().status, 0);
  EXPECT_EQ(p.server.poll().wr_id, 5u);
}

TEST(SharedReceives, TheLimitIsReportedOnce) {
  SharedPair p;
  for (uint64_t i = 0; i < 4; ++i) p.receive(i);
  Engine& engine = *p.world.b.engine;
  ASSERT_TRUE(engine.arm_srq(p.server.context, p.srq, 3).ok());
  p.send(0, 1);
  p.world.run();
  EXPECT_EQ(engine.query_srq_limit(p.server.context, p.srq).value(), 3u);
  const std::pair<uint64_t, AsyncEvent> reached{kSrqCookie, AsyncEvent::kSrqLimitReached};
  EXPECT_THAT(p.server.events.async, ::testing::Not(::testing::Contains(reached)));
  p.send(0, 2);
  p.send(1, 3);
  p.world.run();
  EXPECT_EQ(std::count(p.server.events.async.begin(), p.server.events.async.end(), reached), 1);
  EXPECT_EQ(engine.query_srq_limit(p.server.context, p.srq).value(), 0u);
}

TEST(SharedReceives, OutliveTheQpThatFails) {
  SharedPair p;
  for (uint64_t i = 0; i < 3; ++i) p.receive(i);
  base::QpAttributes error;
  error.state = base::QpState::kError;
  ASSERT_TRUE(p.server.modify(p.right[0].qpn, error, base::kQpState).ok());
  p.world.run();
  EXPECT_EQ(p.server.poll().status, -1) << "nothing is flushed";
  const std::pair<uint64_t, AsyncEvent> last{99, AsyncEvent::kLastWqeReached};
  EXPECT_THAT(p.server.events.async, ::testing::Contains(last));
  p.send(1, 1);
  p.world.run();
  EXPECT_EQ(p.server.poll().wr_id, 0u);
  // The QP starts again: the ring is not its own to reset.
  error.state = base::QpState::kReset;
  ASSERT_TRUE(p.server.modify(p.right[0].qpn, error, base::kQpState).ok());
  p.send(1, 2);
  p.world.run();
  EXPECT_EQ(p.server.poll().wr_id, 1u);
}

TEST(SharedReceives, AreBusyWhileQpsUseThem) {
  SharedPair p;
  Engine& engine = *p.world.b.engine;
  EXPECT_EQ(engine.destroy_srq(p.server.context, p.srq).error().code, EBUSY);
  Application stranger(p.world.b);
  EXPECT_EQ(engine.destroy_srq(stranger.context, p.srq).error().code, ENOENT);
  for (const Endpoint& end : p.right) {
    ASSERT_TRUE(engine.destroy_qp(p.server.context, end.qpn).ok());
  }
  EXPECT_TRUE(engine.destroy_srq(p.server.context, p.srq).ok());
  EXPECT_EQ(engine.destroy_srq(p.server.context, p.srq).error().code, ENOENT);
}

TEST(SharedReceives, ALyingRingHurtsOnlyItsOwner) {
  SharedPair p;
  auto* header = reinterpret_cast<pipe::ReceiveRingHeader*>(p.ring.data());
  for (const uint32_t lie : {kDepth + 1, 0x8000'0000u, UINT32_MAX}) {
    header->produced.store(lie);
    p.send(0, 1);
    p.world.run(2);
    EXPECT_EQ(p.server.poll().status, -1) << lie;
  }
  p.world.b.engine->close_context(p.server.context);
  EXPECT_EQ(p.world.b.engine->info().contexts.size(), 0u);
}

}  // namespace
}  // namespace flexins::engine::testing
