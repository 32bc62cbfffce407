#include <gtest/gtest.h>

#include <cerrno>
#include <map>

#include "harness.h"

namespace flexins::engine::testing {
namespace {

using base::WcStatus;

constexpr uint32_t kRing = 64;
constexpr uint32_t kSlotBytes = 256;

/// An application with receive work queues; frames are put where the network port finds them.
struct Receiver {
  World world;
  Application app{world.a};
  std::vector<uint8_t> memory = std::vector<uint8_t>(kRing * kSlotBytes);
  base::MemoryKey key = app.register_memory(memory.data(), memory.size());
  Engine& engine = *world.a.engine;

  Endpoint queue(bool ready = true) {
    CreateQp request;
    request.pd = app.pd;
    request.send_cq = request.receive_cq = app.cq;
    request.type = base::QpType::kReceiveQueue;
    request.cookie = 77;
    request.max_receive_wr = kRing;
    Ring ring(pipe::receive_ring_bytes(kRing, 1));
    const auto qpn = engine.create_qp(app.context, request, ring.get()).value();
    pipe::ReceiveProducer receives(ring.data(), kRing, 1);
    if (ready) {
      EXPECT_TRUE(move(qpn, base::QpState::kReadyToReceive).ok());
    }
    return {std::move(ring), qpn, receives};
  }
  base::Result<ModifiedQp> move(base::Qpn qpn, base::QpState to) {
    base::QpAttributes a;
    a.state = to;
    return engine.modify_qp(app.context, qpn, a, base::kQpState, 0);
  }
  void post(Endpoint& queue, uint32_t length = kSlotBytes) {
    const base::Sge into[] = {{reinterpret_cast<uint64_t>(memory.data()), length, key.value}};
    queue.receives.write(1, into);
    queue.receives.publish();
  }
  base::Result<base::Qpn> spread(base::SpreadTableId table) {
    CreateSpreadingQp request;
    request.pd = app.pd;
    request.table = table;
    request.hash.key.fill(0x5a);
    request.hash.key[5] = 0x17;
    request.hash.fields = base::kHashSourceIpv4;
    return engine.create_spreading_qp(app.context, request);
  }
  /// A UDP datagram in IPv4 from 10.0.0.`from`.
  void arrive(uint8_t from) {
    FlatPacket frame;
    frame.bytes.resize(64);
    const auto set = [&frame](size_t at, uint8_t value) {
      frame.bytes[at] = static_cast<std::byte>(value);
    };
    set(12, 0x08), set(14, 0x45), set(23, 17), set(26, 10), set(29, from);
    world.a.raw.inbox.push_back(frame);
    world.run();
  }
  void want_all(base::Qpn qpn) {
    base::FlowRule rule;
    rule.is_default = 1;
    ASSERT_TRUE(engine.create_flow(app.context, qpn, rule, {}).ok());
  }
};

TEST(Spreading, FramesOfOneSourceStayTogetherAndSourcesSpread) {
  Receiver r;
  std::vector<Endpoint> queues;
  std::vector<base::Qpn> numbers;
  for (int i = 0; i < 4; ++i) {
    queues.push_back(r.queue());
    numbers.push_back(queues.back().qpn);
    for (uint32_t n = 0; n < kRing; ++n) r.post(queues.back());
  }
  const auto table = r.engine.create_spread_table(r.app.context, numbers);
  ASSERT_TRUE(table.ok());
  const auto qpn = r.spread(*table);
  ASSERT_TRUE(qpn.ok());
  r.want_all(*qpn);
  std::map<uint32_t, int> taken;
  std::map<uint8_t, uint32_t> queue_of;
  for (int round = 0; round < 2; ++round) {
    for (uint8_t source = 1; source <= 24; ++source) {
      r.arrive(source);
      const Done done = r.app.poll();
      ASSERT_EQ(done.status, 0);
      ++taken[done.qpn];
      const auto [first, is_new] = queue_of.emplace(source, done.qpn);
      EXPECT_EQ(first->second, done.qpn);
    }
  }
  EXPECT_EQ(taken.size(), 4u);
}

TEST(Spreading, ObjectsGoInOrder) {
  Receiver r;
  Endpoint queue = r.queue();
  const base::Qpn one[] = {queue.qpn};
  const auto table = r.engine.create_spread_table(r.app.context, one);
  ASSERT_TRUE(table.ok());
  const auto qpn = r.spread(*table);
  ASSERT_TRUE(qpn.ok());
  EXPECT_TRUE(r.world.a.raw.started);
  EXPECT_EQ(r.move(*qpn, base::QpState::kInit).error().code, EINVAL);
  EXPECT_EQ(r.engine.destroy_qp(r.app.context, queue.qpn).error().code, EBUSY);
  EXPECT_EQ(r.engine.destroy_spread_table(r.app.context, *table).error().code, EBUSY);
  EXPECT_EQ(r.engine.destroy_cq(r.app.context, r.app.cq).error().code, EBUSY);
  EXPECT_TRUE(r.engine.destroy_qp(r.app.context, *qpn).ok());
  EXPECT_FALSE(r.world.a.raw.started);
  EXPECT_TRUE(r.engine.destroy_spread_table(r.app.context, *table).ok());
  EXPECT_EQ(r.engine.destroy_spread_table(r.app.context, *table).error().code, ENOENT);
  EXPECT_TRUE(r.engine.destroy_qp(r.app.context, queue.qpn).ok());
  EXPECT_TRUE(r.engine.destroy_cq(r.app.context, r.app.cq).ok());
}

TEST(Spreading, TablesAreOfReceiveQueuesInPowersOfTwo) {
  Receiver r;
  Endpoint queue = r.queue(), connected = r.app.create_qp();
  const std::vector<base::Qpn> three(3, queue.qpn), none, too_many(1024, queue.qpn);
  const base::Qpn other[] = {connected.qpn};
  for (const std::vector<base::Qpn>& bad : {three, none, too_many}) {
    EXPECT_EQ(r.engine.create_spread_table(r.app.context, bad).error().code, EINVAL);
  }
  EXPECT_EQ(r.engine.create_spread_table(r.app.context, other).error().code, EINVAL);
  EXPECT_EQ(r.spread(base::SpreadTableId{4711}).error().code, ENOENT);
  base::FlowRule rule;
  EXPECT_EQ(r.engine.create_flow(r.app.context, queue.qpn, rule, {}).error().code, EINVAL);
}

TEST(Spreading, AQueueHasThreeStates) {
  Receiver r;
  Endpoint queue = r.queue(false);
  EXPECT_EQ(r.move(queue.qpn, base::QpState::kInit).error().code, EINVAL);
  EXPECT_EQ(r.move(queue.qpn, base::QpState::kError).error().code, EINVAL);
  EXPECT_TRUE(r.move(queue.qpn, base::QpState::kReadyToReceive).ok());
  EXPECT_EQ(r.move(queue.qpn, base::QpState::kReadyToSend).error().code, EINVAL);
  r.post(queue);
  EXPECT_TRUE(r.move(queue.qpn, base::QpState::kError).ok());
  EXPECT_EQ(r.app.poll().status, static_cast<int>(WcStatus::kWrFlush));
  EXPECT_TRUE(r.app.events.async.empty());
  EXPECT_TRUE(r.move(queue.qpn, base::QpState::kReset).ok());
}

TEST(Spreading, AFrameTooLongIsTheEndOfTheQueueAndSaidSo) {
  Receiver r;
  Endpoint queue = r.queue();
  const base::Qpn one[] = {queue.qpn};
  const auto qpn = r.spread(r.engine.create_spread_table(r.app.context, one).value());
  r.want_all(*qpn);
  r.post(queue, 16);
  r.arrive(1);
  EXPECT_EQ(r.app.poll().status, static_cast<int>(WcStatus::kLocalLength));
  ASSERT_EQ(r.app.events.async.size(), 1u);
  EXPECT_EQ(r.app.events.async[0], (std::pair{uint64_t{77}, base::AsyncEvent::kWqFatal}));
}

}  // namespace
}  // namespace flexins::engine::testing
