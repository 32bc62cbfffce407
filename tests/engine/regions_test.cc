#include <gtest/gtest.h>

#include <numeric>

#include "harness.h"
#include "memory/plain_windows.h"

namespace flexins::engine::testing {
namespace {

using base::WcStatus;
using base::WrOpcode;

/// Two applications, connected, with a source and a sink.
struct Pair {
  World world;
  Application client{world.a};
  Application server{world.b};
  Endpoint left = client.create_qp();
  Endpoint right = server.create_qp();
  std::vector<uint8_t> source = std::vector<uint8_t>(10'000);
  std::vector<uint8_t> sink = std::vector<uint8_t>(10'000);
  base::MemoryKey from = client.register_memory(source.data(), source.size());
  base::MemoryKey to = server.register_memory(sink.data(), sink.size());

  Pair() {
    std::iota(source.begin(), source.end(), 1);
    client.connect(left, world.b.address, right.qpn);
    server.connect(right, world.a.address, left.qpn);
  }
  WcStatus write(base::MemoryKey key, uint64_t address, uint32_t length = 1000) {
    client.post(left.qpn, WrOpcode::kRdmaWrite,
                {reinterpret_cast<uint64_t>(source.data()), length, from.value}, address, key.value,
                1);
    world.run();
    return static_cast<WcStatus>(client.poll().status);
  }
  base::Result<void> change(RegionChanges changes, memory::Region with) {
    return world.b.engine->reregister_region(server.context, to, changes, std::move(with));
  }
};

memory::Region region_at(void* data, uint64_t length, uint32_t access) {
  memory::Region region;
  region.address = region.window_base = reinterpret_cast<uint64_t>(data);
  region.length = length;
  region.access = access;
  region.window = std::make_unique<DirectWindow>();
  return region;
}

constexpr uint32_t kAll =
    base::kAccessLocalWrite | base::kAccessRemoteWrite | base::kAccessRemoteRead;

TEST(Reregister, MovesARegionAndKeepsItsKey) {
  Pair p;
  std::vector<uint8_t> elsewhere(5000);
  ASSERT_TRUE(p.change({false, true}, region_at(elsewhere.data(), 5000, kAll)).ok());
  EXPECT_EQ(p.write(p.to, reinterpret_cast<uint64_t>(elsewhere.data())), WcStatus::kSuccess);
  EXPECT_TRUE(std::equal(p.source.begin(), p.source.begin() + 1000, elsewhere.begin()));
  EXPECT_EQ(p.write(p.to, reinterpret_cast<uint64_t>(p.sink.data())), WcStatus::kRemoteAccess);
}

TEST(Reregister, TakesRightsAway) {
  Pair p;
  const auto at = reinterpret_cast<uint64_t>(p.sink.data());
  EXPECT_EQ(p.write(p.to, at), WcStatus::kSuccess);
  ASSERT_TRUE(
      p.change({false, true}, region_at(p.sink.data(), 10'000, base::kAccessLocalWrite)).ok());
  EXPECT_EQ(p.write(p.to, at), WcStatus::kRemoteAccess);
}

TEST(Reregister, MovesARegionToAnotherPd) {
  Pair p;
  Engine& engine = *p.world.b.engine;
  const base::PdId other = engine.allocate_pd(p.server.context).value();
  memory::Region with;
  with.pd = other;
  ASSERT_TRUE(p.change({true, false}, std::move(with)).ok());
  EXPECT_EQ(p.write(p.to, reinterpret_cast<uint64_t>(p.sink.data())), WcStatus::kRemoteAccess);
  EXPECT_EQ(engine.free_pd(p.server.context, other).error().code, EBUSY);
  ASSERT_TRUE(engine.deregister_region(p.server.context, p.to).ok());
  EXPECT_TRUE(engine.free_pd(p.server.context, other).ok());
}

TEST(Reregister, FailsWithoutATrace) {
  Pair p;
  memory::Region with;
  with.pd = base::PdId{12345};
  EXPECT_EQ(p.change({true, false}, std::move(with)).error().code, ENOENT);
  EXPECT_EQ(
      p.change({false, true}, region_at(p.sink.data(), 100, base::kAccessRemoteWrite)).error().code,
      EINVAL);
  EXPECT_EQ(p.change({false, true}, region_at(p.sink.data(), UINT64_MAX, kAll)).error().code,
            EINVAL);
  EXPECT_EQ(p.world.b.engine
                ->reregister_region(p.server.context, base::MemoryKey{1}, {false, true},
                                    region_at(p.sink.data(), 100, kAll))
                .error()
                .code,
            ENOENT);
  EXPECT_EQ(p.write(p.to, reinterpret_cast<uint64_t>(p.sink.data())), WcStatus::kSuccess);
}

TEST(PlainRegions, TheNullRegionReadsAsZeroes) {
  Pair p;
  memory::Region null;
  null.pd = p.client.pd;
  null.length = UINT64_MAX;
  null.access = base::kAccessLocalWrite;
  null.window = std::make_unique<memory::NullWindow>();
  const auto key = p.world.a.engine->register_region(p.client.context, std::move(null)).value();
  p.sink.assign(p.sink.size(), 9);
  p.client.post(p.left.qpn, WrOpcode::kRdmaWrite, {0xdead'beef'0000, 3000, key.value},
                reinterpret_cast<uint64_t>(p.sink.data()), p.to.value, 1);
  p.world.run();
  EXPECT_EQ(p.client.poll().status, 0);
  EXPECT_EQ(p.sink[0], 0);
  EXPECT_EQ(p.sink[2999], 0);
  EXPECT_EQ(p.sink[3000], 9);
  // And swallows what is read into it.
  p.client.post(p.left.qpn, WrOpcode::kRdmaRead, {12, 5000, key.value},
                reinterpret_cast<uint64_t>(p.sink.data()), p.to.value, 2);
  p.world.run();
  EXPECT_EQ(p.client.poll().status, 0);
}

TEST(PlainRegions, DeviceMemoryIsWrittenFromAfar) {
  Pair p;
  auto memory = std::make_shared<std::vector<std::byte>>(4096);
  memory::Region device;
  device.pd = p.server.pd;
  device.length = 2048;
  device.window_base = 1024;  // a part of it
  device.access = kAll;
  device.window = std::make_unique<memory::OwnWindow>(
      std::span<std::byte>(memory->data(), memory->size()), memory);
  const auto key = p.world.b.engine->register_region(p.server.context, std::move(device)).value();
  EXPECT_EQ(p.write(key, 8, 2000), WcStatus::kSuccess);
  EXPECT_EQ(std::memcmp(memory->data() + 1024 + 8, p.source.data(), 2000), 0);
  EXPECT_EQ((*memory)[1024 + 7], std::byte{0});
  EXPECT_EQ(p.write(key, 1024, 1025), WcStatus::kRemoteAccess);
}

TEST(SharedPd, LendsWhatItsOwnerHas) {
  World world;
  Application owner(world.a);
  Application guest(world.a);
  Engine& engine = *world.a.engine;
  std::vector<uint8_t> data(100);
  const auto key = owner.register_memory(data.data(), 100);
  EXPECT_EQ(engine.region_length(guest.context, owner.pd, key).error().code, ENOENT);
  EXPECT_EQ(engine.share_pd(guest.context, owner.context, guest.pd).error().code, ENOENT);
  ASSERT_TRUE(engine.share_pd(guest.context, owner.context, owner.pd).ok());
  EXPECT_EQ(engine.share_pd(guest.context, owner.context, owner.pd).error().code, EEXIST);
  EXPECT_EQ(engine.region_length(guest.context, owner.pd, key).value(), 100u);
  EXPECT_EQ(engine.region_length(guest.context, guest.pd, key).error().code, ENOENT);
  // A region is deregistered only by who registered it.
  EXPECT_EQ(engine.deregister_region(guest.context, key).error().code, ENOENT);
  EXPECT_TRUE(engine.free_pd(guest.context, owner.pd).ok());
  EXPECT_EQ(engine.free_pd(owner.context, owner.pd).error().code, EBUSY);
}

TEST(Announce, ReachesEveryContext) {
  World world;
  Application first(world.a);
  Application second(world.a);
  world.a.engine->announce(base::AsyncEvent::kPortError);
  const auto expected = std::make_pair(uint64_t{1}, base::AsyncEvent::kPortError);
  ASSERT_EQ(first.events.async.size(), 1u);
  EXPECT_EQ(first.events.async[0], expected);
  ASSERT_EQ(second.events.async.size(), 1u);
  EXPECT_EQ(second.events.async[0], expected);
}

}  // namespace
}  // namespace flexins::engine::testing
