#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "harness.h"
#include "wire/internet.h"

namespace flexins::engine::testing {
namespace {

using base::WcStatus;
using base::WrOpcode;

constexpr uint32_t kQkey = 0x1234;
constexpr size_t kGrh = 40;

/// An application with datagram QPs and one registered page.
struct Speaker {
  Application app;
  std::vector<uint8_t> memory = std::vector<uint8_t>(16384);
  base::MemoryKey key = app.register_memory(memory.data(), memory.size());

  explicit Speaker(Host& host) : app(host) {}

  Endpoint create(base::QpType type = base::QpType::kDatagram) {
    CreateQp request;
    request.pd = app.pd;
    request.send_cq = request.receive_cq = app.cq;
    request.type = type;
    request.max_send_wr = request.max_receive_wr = 64;
    Ring ring(pipe::receive_ring_bytes(64, 1));
    const auto qpn = app.host.engine->create_qp(app.context, request, ring.get()).value();
    pipe::ReceiveProducer receives(ring.data(), 64, 1);
    base::QpAttributes a;
    a.state = base::QpState::kInit;
    a.port_number = 1;
    a.qkey = kQkey;
    EXPECT_TRUE(
        app.modify(qpn, a, base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpQkey)
            .ok());
    a.state = base::QpState::kReadyToReceive;
    EXPECT_TRUE(app.modify(qpn, a, base::kQpState).ok());
    a.state = base::QpState::kReadyToSend;
    EXPECT_TRUE(app.modify(qpn, a, base::kQpState | base::kQpSqPsn).ok());
    return {std::move(ring), qpn, receives};
  }
  base::Result<base::AhId> handle(const wire::IpAddress& to, base::PdId pd) {
    base::AddressVector address;
    address.destination_gid = to.bytes;
    address.is_global = 1;
    address.port_number = 1;
    address.hop_limit = 9;
    return app.host.engine->create_ah(app.context, pd, address);
  }
  base::AhId handle(const wire::IpAddress& to) { return handle(to, app.pd).value(); }

  void receive(Endpoint& endpoint, uint64_t wr_id, size_t offset, uint32_t length = 2000) {
    const base::Sge into[] = {{at(offset), length, key.value}};
    endpoint.receives.write(wr_id, into);
    endpoint.receives.publish();
  }
  void send(const Endpoint& endpoint, base::AhId ah, base::Qpn to, size_t offset, uint32_t length,
            uint64_t wr_id) {
    app.post(endpoint.qpn, WrOpcode::kSend, {at(offset), length, key.value},
             pipe::pack_datagram_address({ah.value, to.value}), kQkey, wr_id);
  }
  [[nodiscard]] uint64_t at(size_t offset) const {
    return reinterpret_cast<uint64_t>(memory.data()) + offset;
  }
};

TEST(Datagrams, GoBothWaysOfOneTrain) {
  World world;
  Speaker a(world.a), b(world.b);
  Endpoint from = a.create(), beside = a.create(), far = b.create();
  const auto to_self = a.handle(world.a.address), to_far = a.handle(world.b.address);
  std::memcpy(a.memory.data(), "near and far", 12);
  for (int i = 0; i < 3; ++i) {
    a.receive(beside, 10 + i, 4096 + 2048 * i);
    b.receive(far, 20 + i, 4096 + 2048 * i);
    a.send(from, to_self, beside.qpn, 0, 12, 2 * i);
    a.send(from, to_far, far.qpn, 5, 7, 2 * i + 1);
  }
  world.run();
  for (int i = 0; i < 3; ++i) {
    const Done done = b.app.poll();
    EXPECT_EQ(done.status, 0);
    EXPECT_EQ(done.wr_id, 20u + i);
    EXPECT_EQ(done.byte_length, kGrh + 7);
    EXPECT_EQ(std::memcmp(&b.memory[4096 + 2048 * i + kGrh], "and far", 7), 0);
    EXPECT_EQ(std::memcmp(&a.memory[4096 + 2048 * i + kGrh], "near and far", 12), 0);
  }
  int sends = 0;
  for (Done done = a.app.poll(); done.status == 0; done = a.app.poll()) sends += done.wr_id < 6;
  EXPECT_EQ(sends, 6);
}

TEST(Datagrams, ReachTheirOwnSender) {
  World world;
  Speaker a(world.a);
  Endpoint self = a.create();
  a.receive(self, 2, 0);
  std::memcpy(a.memory.data() + 4096, "to myself", 9);
  a.send(self, a.handle(world.a.address), self.qpn, 4096, 9, 1);
  world.run();
  EXPECT_EQ(std::memcmp(&a.memory[kGrh], "to myself", 9), 0);
  EXPECT_EQ(a.app.poll().wr_id + a.app.poll().wr_id, 3u);
}

TEST(Datagrams, ComeWithTheHeaderThatSaysWhereFrom) {
  World world;
  Speaker a(world.a), b(world.b);
  Endpoint from = a.create(), to = b.create();
  b.receive(to, 1, 0);
  a.send(from, a.handle(world.b.address), to.qpn, 0, 5, 1);
  world.run();
  ASSERT_EQ(b.app.poll().status, 0);
  const auto* ip = reinterpret_cast<const std::byte*>(b.memory.data()) + 20;
  EXPECT_TRUE(std::all_of(b.memory.data(), b.memory.data() + 20, [](uint8_t x) { return x == 0; }));
  EXPECT_EQ(ip[0], std::byte{0x45});
  // IP 20, UDP 8, BTH 12, DETH 8, payload 5, pad 3, ICRC 4.
  EXPECT_EQ(ip[3], std::byte{60});
  EXPECT_EQ(ip[9], std::byte{17});
  EXPECT_EQ(wire::internet_checksum({ip, 20}), 0);
  EXPECT_EQ(wire::IpAddress::from_v4(ip + 12), world.a.address);
  EXPECT_EQ(wire::IpAddress::from_v4(ip + 16), world.b.address);
}

TEST(Datagrams, HandlesBelongToTheirProtectionDomain) {
  World world;
  Speaker a(world.a);
  Engine& engine = *world.a.engine;
  const auto other = engine.allocate_pd(a.app.context).value();
  const auto ah = a.handle(world.b.address, other).value();
  EXPECT_EQ(engine.free_pd(a.app.context, other).error().code, EBUSY);
  Endpoint qp = a.create();
  a.send(qp, ah, base::Qpn{5}, 0, 5, 1);
  world.run();
  EXPECT_EQ(a.app.poll().status, static_cast<int>(WcStatus::kLocalQpOperation));
  EXPECT_TRUE(engine.destroy_ah(a.app.context, ah).ok());
  EXPECT_EQ(engine.destroy_ah(a.app.context, ah).error().code, ENOENT);
  EXPECT_TRUE(engine.free_pd(a.app.context, other).ok());
}

TEST(Datagrams, HandlesAreChecked) {
  World world;
  Speaker a(world.a);
  base::AddressVector to;
  to.destination_gid = world.b.address.bytes;
  to.port_number = 1;
  const auto refused = [&] {
    return world.a.engine->create_ah(a.app.context, a.app.pd, to).error().code;
  };
  EXPECT_EQ(refused(), EINVAL);  // not global
  to.is_global = 1;
  to.source_gid_index = 1;
  EXPECT_EQ(refused(), EINVAL);
  to.source_gid_index = 0;
  to.port_number = 2;
  EXPECT_EQ(refused(), EINVAL);
  to.port_number = 1;
  to.destination_gid[0] = 0xfd;
  EXPECT_EQ(refused(), EINVAL);  // IPv6 from an IPv4 address
}

TEST(Datagrams, OutliveTheirHandleAndWaitForTheWayOut) {
  World world;
  Speaker a(world.a), b(world.b);
  Endpoint from = a.create(), to = b.create();
  const auto ah = a.handle(world.b.address);
  world.a.network.accept_at_most = 0;
  b.receive(to, 1, 0);
  a.send(from, ah, to.qpn, 0, 5, 1);
  world.a.engine->step(1);
  EXPECT_EQ(a.app.poll().status, -1);  // still with us: its memory is in use
  EXPECT_TRUE(world.a.engine->destroy_ah(a.app.context, ah).ok());
  world.a.network.accept_at_most = SIZE_MAX;
  world.run();
  EXPECT_EQ(a.app.poll().status, 0);
  EXPECT_EQ(b.app.poll().status, 0);
}

TEST(Datagrams, ADestroyedSenderTakesItsTrainAlong) {
  World world;
  Speaker a(world.a);
  Endpoint from = a.create();
  world.a.network.accept_at_most = 0;
  a.send(from, a.handle(world.b.address), base::Qpn{5}, 0, 5, 1);
  world.a.engine->step(1);
  EXPECT_TRUE(world.a.engine->destroy_qp(a.app.context, from.qpn).ok());
  world.a.network.accept_at_most = SIZE_MAX;
  world.run();
  EXPECT_EQ(world.a.network.transmitted, 0u);
}

wire::IpAddress group_address() {
  const uint8_t octets[4] = {239, 1, 2, 3};
  return wire::IpAddress::from_v4(octets);
}

TEST(Datagrams, ToAGroupReachEachMemberOnce) {
  World world;
  Speaker a(world.a), b(world.b);
  Endpoint from = a.create(), beside = a.create(), deaf = a.create();
  Endpoint far = b.create(), farther = b.create();
  const base::Gid group = group_address().bytes;
  Engine& near_engine = *world.a.engine;
  for (const Endpoint* member : {&from, &beside}) {
    ASSERT_TRUE(near_engine.attach_multicast(a.app.context, member->qpn, group).ok());
  }
  for (const Endpoint* member : {&far, &farther}) {
    ASSERT_TRUE(world.b.engine->attach_multicast(b.app.context, member->qpn, group).ok());
  }
  EXPECT_EQ(world.a.network.joined.size(), 1u);
  // The network hands our own packets back, too.
  world.a.network.echo = true;
  a.receive(from, 1, 0), a.receive(beside, 2, 2048), a.receive(deaf, 3, 4096);
  a.receive(beside, 4, 6144);
  b.receive(far, 5, 0), b.receive(farther, 6, 2048);
  std::memcpy(a.memory.data() + 9000, "to all", 6);
  a.send(from, a.handle(group_address()), base::kMulticastQpn, 9000, 6, 9);
  world.run();
  EXPECT_EQ(std::memcmp(&a.memory[2048 + kGrh], "to all", 6), 0);
  EXPECT_EQ(std::memcmp(&b.memory[kGrh], "to all", 6), 0);
  EXPECT_EQ(std::memcmp(&b.memory[2048 + kGrh], "to all", 6), 0);
  std::vector<uint64_t> done;
  for (Done one = a.app.poll(); one.status == 0; one = a.app.poll()) done.push_back(one.wr_id);
  EXPECT_THAT(done, ::testing::UnorderedElementsAre(2, 9));
  done.clear();
  for (Done one = b.app.poll(); one.status == 0; one = b.app.poll()) done.push_back(one.wr_id);
  EXPECT_THAT(done, ::testing::UnorderedElementsAre(5, 6));
}

TEST(Datagrams, MembershipIsChecked) {
  World world;
  Speaker a(world.a);
  Engine& engine = *world.a.engine;
  Endpoint qp = a.create();
  Endpoint connected = a.app.create_qp();
  base::Gid group = group_address().bytes;
  const auto attach = [&](base::Qpn qpn) {
    return engine.attach_multicast(a.app.context, qpn, group);
  };
  EXPECT_EQ(attach(connected.qpn).error().code, EINVAL);
  EXPECT_EQ(engine.detach_multicast(a.app.context, qp.qpn, group).error().code, EINVAL);
  EXPECT_TRUE(attach(qp.qpn).ok());
  EXPECT_TRUE(attach(qp.qpn).ok());
  EXPECT_EQ(engine.destroy_qp(a.app.context, qp.qpn).error().code, EBUSY);
  // The other way to write the same group.
  group[0] = 0xff;
  group[1] = 0x0e;
  EXPECT_TRUE(engine.detach_multicast(a.app.context, qp.qpn, group).ok());
  EXPECT_TRUE(world.a.network.joined.empty());
  group = world.b.address.bytes;
  EXPECT_EQ(attach(qp.qpn).error().code, EINVAL);

  group = group_address().bytes;
  EXPECT_TRUE(attach(qp.qpn).ok());
  engine.close_context(a.app.context);
  EXPECT_TRUE(world.a.network.joined.empty());
}

}  // namespace
}  // namespace flexins::engine::testing
