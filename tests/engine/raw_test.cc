#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "harness.h"
#include "wire/headers.h"

namespace flexins::engine::testing {
namespace {

using base::WcStatus;
using base::WrOpcode;

constexpr uint32_t kFrameBytes = 64;

/// An application with raw packet QPs; frames lie in its memory, 2 KiB apart.
struct Station {
  Application app;
  std::vector<uint8_t> memory = std::vector<uint8_t>(32768);
  base::MemoryKey key = app.register_memory(memory.data(), memory.size());

  explicit Station(Host& host) : app(host) {}

  base::Result<base::Qpn> try_create(Ring& ring) {
    CreateQp request;
    request.pd = app.pd;
    request.send_cq = request.receive_cq = app.cq;
    request.type = base::QpType::kRawPacket;
    request.max_send_wr = request.max_receive_wr = 16;
    return app.host.engine->create_qp(app.context, request, ring.get());
  }
  Endpoint create() {
    Ring ring(pipe::receive_ring_bytes(16, 1));
    const auto qpn = try_create(ring).value();
    pipe::ReceiveProducer receives(ring.data(), 16, 1);
    base::QpAttributes a;
    a.port_number = 1;
    a.state = base::QpState::kInit;
    EXPECT_TRUE(app.modify(qpn, a, base::kQpState | base::kQpPort).ok());
    a.state = base::QpState::kReadyToReceive;
    EXPECT_TRUE(app.modify(qpn, a, base::kQpState).ok());
    a.state = base::QpState::kReadyToSend;
    EXPECT_TRUE(app.modify(qpn, a, base::kQpState).ok());
    return {std::move(ring), qpn, receives};
  }
  base::Result<base::FlowId> want(const Endpoint& qp, uint8_t mac, uint16_t priority = 0,
                                  uint8_t is_default = 0, base::CountersId counters = {}) {
    base::FlowRule rule;
    rule.priority = priority;
    rule.is_default = is_default;
    if (mac != 0) {
      rule.value.destination_mac[5] = mac;
      rule.mask.destination_mac.fill(0xff);
    }
    return app.host.engine->create_flow(app.context, qp.qpn, rule, counters);
  }
  [[nodiscard]] uint64_t at(size_t frame) const {
    return reinterpret_cast<uint64_t>(memory.data()) + 2048 * frame;
  }
  void receive(Endpoint& qp, size_t frame) {
    const base::Sge into[] = {{at(frame), 2048, key.value}};
    qp.receives.write(frame, into);
    qp.receives.publish();
  }
  void send(const Endpoint& qp, uint8_t mac, size_t frame = 15, uint32_t bytes = kFrameBytes) {
    memory[2048 * frame + 5] = mac;
    app.post(qp.qpn, WrOpcode::kSend, {at(frame), bytes, key.value}, 0, 0, 100);
  }
  /// Receives that completed well, in order.
  std::vector<uint64_t> received() {
    std::vector<uint64_t> frames;
    for (Done done = app.poll(); done.status == 0; done = app.poll()) {
      if (done.wr_id != 100) frames.push_back(done.wr_id);
    }
    return frames;
  }
};

TEST(RawFrames, ReachWhoWantsThem) {
  World world;
  Station a(world.a), b(world.b);
  Endpoint from = a.create(), beside = a.create(), far = b.create();
  ASSERT_TRUE(a.want(from, 0, 0, 1).ok());  // not what it sends itself
  ASSERT_TRUE(a.want(beside, 7).ok());
  ASSERT_TRUE(b.want(far, 9).ok());
  a.receive(from, 0), a.receive(beside, 1), b.receive(far, 2);
  a.memory[15 * 2048 + 20] = 0x5a;
  a.send(from, 7);
  world.run();
  EXPECT_EQ(a.received(), std::vector<uint64_t>{1});
  EXPECT_EQ(a.memory[2048 + 20], 0x5a);
  a.send(from, 9);
  world.run();
  EXPECT_EQ(b.received(), std::vector<uint64_t>{2});
  EXPECT_EQ(world.a.raw.transmitted, 2u);
}

TEST(RawFrames, NobodySendsToTheirNumber) {
  World world;
  Station a(world.a);
  Endpoint raw = a.create();
  a.receive(raw, 0);
  for (const wire::Opcode opcode : {wire::Opcode::kUdSendOnly, wire::Opcode::kRcSendOnly}) {
    wire::Headers headers;
    headers.bth.opcode = opcode;
    headers.bth.destination = raw.qpn;
    FlatPacket packet;
    packet.source = world.b.address;
    packet.destination = world.a.address;
    packet.bytes.resize(wire::header_bytes(opcode) + 64);
    wire::emit(headers, packet.bytes);
    world.a.network.inbox.push_back(std::move(packet));
  }
  world.run();
  EXPECT_TRUE(a.received().empty());
}

TEST(RawFrames, FirstRuleByPriorityTakesIt) {
  World world;
  Station a(world.a), b(world.b);
  Endpoint from = a.create();
  Endpoint any = b.create(), second = b.create(), first = b.create();
  ASSERT_TRUE(b.want(any, 0, 0, 1).ok());
  ASSERT_TRUE(b.want(second, 7, 5).ok());
  const auto flow = b.want(first, 7, 4);
  ASSERT_TRUE(flow.ok());
  b.receive(any, 0), b.receive(second, 1), b.receive(first, 2);
  a.send(from, 7);
  world.run();
  EXPECT_EQ(b.received(), std::vector<uint64_t>{2});
  EXPECT_TRUE(world.b.engine->destroy_flow(b.app.context, first.qpn, *flow).ok());
  EXPECT_EQ(world.b.engine->destroy_flow(b.app.context, first.qpn, *flow).error().code, ENOENT);
  a.send(from, 7);
  a.send(from, 8, 14);
  world.run();
  EXPECT_EQ(b.received(), (std::vector<uint64_t>{1, 0}));
}

TEST(RawFrames, CountersHaveWhatTheirFlowsTook) {
  World world;
  Station a(world.a), b(world.b);
  Endpoint from = a.create(), to = b.create();
  Engine& engine = *world.b.engine;
  const auto counters = engine.create_counters(b.app.context);
  ASSERT_TRUE(counters.ok());
  const auto first = b.want(to, 7, 0, 0, *counters);
  const auto second = b.want(to, 8, 0, 0, *counters);
  ASSERT_TRUE(b.want(to, 9).ok());
  ASSERT_TRUE(first.ok() && second.ok());
  b.receive(to, 0);
  for (const uint8_t mac : {7, 8, 9, 10}) {
    a.send(from, mac);
    world.run();
  }
  auto counts = engine.read_counters(b.app.context, *counters);
  ASSERT_TRUE(counts.ok());
  EXPECT_EQ(counts->packets, 2u) << "with a receive and without";
  EXPECT_EQ(counts->bytes, 2u * kFrameBytes);
  EXPECT_EQ(engine.destroy_counters(b.app.context, *counters).error().code, EBUSY);
  EXPECT_TRUE(engine.destroy_flow(b.app.context, to.qpn, *first).ok());
  EXPECT_EQ(engine.destroy_counters(b.app.context, *counters).error().code, EBUSY);
  EXPECT_EQ(engine.read_counters(b.app.context, *counters)->packets, 2u) << "they stay";
  EXPECT_TRUE(engine.destroy_qp(b.app.context, to.qpn).ok()) << "its flows go with it";
  EXPECT_TRUE(engine.destroy_counters(b.app.context, *counters).ok());
  EXPECT_EQ(engine.read_counters(b.app.context, *counters).error().code, ENOENT);
  Endpoint other = b.create();
  EXPECT_EQ(b.want(other, 7, 0, 0, *counters).error().code, ENOENT);
}

TEST(RawFrames, PortListensOnlyWhileSomeoneDoes) {
  World world;
  Station a(world.a);
  Ring ring(pipe::receive_ring_bytes(16, 1));
  world.a.raw.forbidden = true;
  EXPECT_EQ(a.try_create(ring).error().code, EPERM);
  world.a.raw.forbidden = false;
  Endpoint one = a.create(), two = a.create();
  ASSERT_TRUE(a.want(one, 7).ok());
  EXPECT_TRUE(world.a.raw.started);
  EXPECT_TRUE(world.a.engine->destroy_qp(a.app.context, one.qpn).ok());
  EXPECT_TRUE(world.a.raw.started);
  EXPECT_TRUE(world.a.engine->destroy_qp(a.app.context, two.qpn).ok());
  EXPECT_FALSE(world.a.raw.started);
}

TEST(RawFrames, TooLongOnesAreRefused) {
  World world;
  Station a(world.a);
  Endpoint from = a.create();
  a.send(from, 7, 15, 1515);
  world.run();
  EXPECT_EQ(a.app.poll().status, static_cast<int>(WcStatus::kLocalLength));
  EXPECT_EQ(world.a.raw.transmitted, 0u);
}

TEST(RawFrames, FlowsAreOfRawQps) {
  World world;
  Station a(world.a);
  Endpoint connected = a.app.create_qp();
  EXPECT_EQ(a.want(connected, 7).error().code, EINVAL);
}

}  // namespace
}  // namespace flexins::engine::testing
