#include "engine/pacer.h"

#include <gtest/gtest.h>

#include <numeric>

#include "harness.h"

namespace flexins::engine::testing {
namespace {

TEST(Pacer, SendsNoFasterThanItsRate) {
  struct Case {
    uint64_t rate;
    base::TimeNs duration;
  };
  for (const auto& [rate, duration] :
       {Case{125'000, 20 * base::kSecond}, Case{12'500'000, base::kSecond},
        Case{12'500'000'000, 5 * base::kMillisecond}}) {
    Pacer pacer;
    pacer.set(rate, 4096, 0);
    base::TimeNs now = 0;
    uint64_t sent = 0;
    while (now < duration) {
      pacer.refill(now);
      if (pacer.may_send()) {
        pacer.charge(1000);
        sent += 1000;
      } else {
        ASSERT_GT(pacer.ready_at(), now);
        now = pacer.ready_at();
      }
    }
    const uint64_t allowed = rate * (duration / base::kMillisecond) / 1000;
    EXPECT_GE(sent, allowed * 99 / 100);
    EXPECT_LE(sent, allowed + 4096 + 1000);
  }
}

TEST(Pacer, APauseIsNotSavedUpBeyondTheBurst) {
  Pacer pacer;
  pacer.set(1'000'000, 5000, 0);
  pacer.refill(100 * base::kSecond);
  uint64_t sent = 0;
  while (pacer.may_send()) {
    pacer.charge(500);
    sent += 500;
  }
  EXPECT_EQ(sent, 5000u);
}

/// 1 MiB from one host to another, and how long it took in virtual time.
base::TimeNs time_of_a_megabyte(uint64_t bytes_per_second) {
  constexpr uint32_t kBytes = 1 << 20;
  World world;
  world.now = base::kSecond;
  Application client(world.a);
  Application server(world.b);
  Endpoint left = client.create_qp();
  Endpoint right = server.create_qp();
  client.connect(left, world.b.address, right.qpn);
  server.connect(right, world.a.address, left.qpn);
  std::vector<uint8_t> source(kBytes);
  std::iota(source.begin(), source.end(), 1);
  std::vector<uint8_t> sink(kBytes);
  const auto from = client.register_memory(source.data(), kBytes);
  const auto to = server.register_memory(sink.data(), kBytes);
  if (bytes_per_second != 0) {
    EXPECT_TRUE(
        world.a.engine->set_qp_rate(client.context, left.qpn, bytes_per_second, 16384, world.now)
            .ok());
  }
  client.post(left.qpn, base::WrOpcode::kRdmaWrite,
              {reinterpret_cast<uint64_t>(source.data()), kBytes, from.value},
              reinterpret_cast<uint64_t>(sink.data()), to.value, 1);
  const base::TimeNs begin = world.now;
  world.run();
  Done done = client.poll();
  for (int i = 0; done.status < 0 && i < 100'000; ++i) {
    world.run(1);
    done = client.poll();
  }
  EXPECT_EQ(done.status, 0);
  EXPECT_EQ(source, sink);
  return world.now - begin;
}

TEST(RateLimit, HoldsAQueuePairToItsRate) {
  EXPECT_LT(time_of_a_megabyte(0), base::kMillisecond);
  // 1 MiB and its headers, less the first burst, at 10 MB/s.
  const base::TimeNs slow = time_of_a_megabyte(10'000'000);
  EXPECT_GT(slow, 100 * base::kMillisecond);
  EXPECT_LT(slow, 120 * base::kMillisecond);
}

TEST(RateLimit, NeedsAQueuePairThatSends) {
  World world;
  Application client(world.a);
  Endpoint left = client.create_qp();
  EXPECT_EQ(world.a.engine->set_qp_rate(client.context, left.qpn, 1000, 1000, 0).error().code,
            EINVAL);
  EXPECT_EQ(world.a.engine->set_qp_rate(client.context, base::Qpn{77}, 1000, 1000, 0).error().code,
            ENOENT);
}

}  // namespace
}  // namespace flexins::engine::testing
