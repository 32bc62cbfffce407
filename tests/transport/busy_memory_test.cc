#include <gtest/gtest.h>

#include <cstring>

#include "harness.h"

/// Memory that does not answer for a while: nothing fails, nothing is done twice, all ends well.

namespace flexins::transport::test {
namespace {

using base::WcStatus;
using base::WrOpcode;

constexpr size_t kLength = 5000;  // five packets
constexpr uint32_t kBusy = 3;

struct Case {
  const char* name;
  WrOpcode opcode;
  size_t length;
  int busy_host;
  uint32_t answered;  ///< accesses before the first that is told to come later
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

class BusyMemory : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    Options options;
    options.rnr_retry = 7;
    options.retry_count = 0;  // waiting for memory is no loss
    harness_ = std::make_unique<Harness>(options);
    harness_->connect();
    for (int i = 0; i < 2; ++i) {
      buffers_[i] = &harness_->hosts[i].allocate(2 * kLength);
      buffers_[i]->fill(1 + i);
      buffers_[i]->window->unmapped = true;
      before_[i].assign(buffers_[i]->bytes.get(), buffers_[i]->bytes.get() + 2 * kLength);
    }
    buffers_[GetParam().busy_host]->window->answered = GetParam().answered;
    buffers_[GetParam().busy_host]->window->busy = kBusy;
  }

  std::unique_ptr<Harness> harness_;
  Buffer* buffers_[2] = {};
  std::vector<std::byte> before_[2];
};

TEST_P(BusyMemory, IsWaitedFor) {
  const Case& one = GetParam();
  harness_->hosts[1].receives.post(9, {buffers_[1]->sge(0, kLength)});
  harness_->hosts[1].receives.post(10, {buffers_[1]->sge(0, kLength)});
  Request request = make_request(one.opcode, 7, {buffers_[0]->sge(0, one.length)},
                                 buffers_[1]->address(), buffers_[1]->key);
  request.wqe.compare_add = 5;
  ASSERT_TRUE(harness_->post(0, request));
  harness_->run();
  EXPECT_EQ(buffers_[one.busy_host]->window->refused, kBusy);
  const auto& sends = harness_->hosts[0].sends.all;
  ASSERT_EQ(sends.size(), 1u);
  EXPECT_EQ(sends[0].status, WcStatus::kSuccess);
  const bool reads = one.opcode == WrOpcode::kRdmaRead;
  const bool adds = one.opcode == WrOpcode::kFetchAdd;
  const auto* here = buffers_[0]->bytes.get();
  const auto* there = buffers_[1]->bytes.get();
  if (adds) {
    uint64_t was = 0;
    uint64_t is = 0;
    std::memcpy(&was, before_[1].data(), 8);
    std::memcpy(&is, there, 8);
    EXPECT_EQ(is, was + 5) << "added once";
    EXPECT_EQ(std::memcmp(here, &was, 8), 0);
  } else {
    EXPECT_EQ(std::memcmp(here, there, one.length), 0);
    EXPECT_EQ(std::memcmp(reads ? there : here, before_[reads ? 1 : 0].data(), one.length), 0);
  }
  const bool receives =
      one.opcode == WrOpcode::kSend || one.opcode == WrOpcode::kRdmaWriteWithImmediate;
  ASSERT_EQ(harness_->hosts[1].receives_done.all.size(), receives ? 1u : 0u);
  if (receives) {
    EXPECT_EQ(harness_->hosts[1].receives_done.all[0].wr_id, 9u);
    EXPECT_EQ(harness_->hosts[1].receives_done.all[0].status, WcStatus::kSuccess);
  }
  EXPECT_TRUE(harness_->hosts[0].observer.events.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Operations, BusyMemory,
    testing::Values(Case{"SendSource", WrOpcode::kSend, kLength, 0, 2},
                    Case{"SendTargetFirst", WrOpcode::kSend, kLength, 1, 0},
                    Case{"SendTargetMiddle", WrOpcode::kSend, kLength, 1, 2},
                    Case{"SendTargetOnly", WrOpcode::kSend, 100, 1, 0},
                    Case{"WriteSource", WrOpcode::kRdmaWrite, kLength, 0, 0},
                    Case{"WriteTargetFirst", WrOpcode::kRdmaWrite, kLength, 1, 0},
                    Case{"WriteTargetLast", WrOpcode::kRdmaWrite, kLength, 1, 4},
                    Case{"ImmediateTargetLast", WrOpcode::kRdmaWriteWithImmediate, kLength, 1, 4},
                    Case{"ImmediateTargetOnly", WrOpcode::kRdmaWriteWithImmediate, 9, 1, 0},
                    Case{"ReadSource", WrOpcode::kRdmaRead, kLength, 1, 2},
                    Case{"ReadSourceFirst", WrOpcode::kRdmaRead, kLength, 1, 0},
                    Case{"ReadTarget", WrOpcode::kRdmaRead, kLength, 0, 1},
                    Case{"ReadTargetLast", WrOpcode::kRdmaRead, kLength, 0, 4},
                    Case{"AddRead", WrOpcode::kFetchAdd, 8, 1, 0},
                    Case{"AddAnswer", WrOpcode::kFetchAdd, 8, 0, 0},
                    Case{"AtomicWrite", WrOpcode::kAtomicWrite, 8, 1, 0}),
    [](const auto& one) { return std::string(one.param.name); });

/// A store that was left alone may still come: a second one could add twice.
TEST(BusyAtomic, FailsWhenItsStoreIsLate) {
  Harness harness;
  harness.connect();
  Buffer& here = harness.hosts[0].allocate(64);
  Buffer& there = harness.hosts[1].allocate(64);
  there.window->unmapped = true;
  there.window->answered = 1;
  there.window->busy = 1;
  Request request =
      make_request(WrOpcode::kFetchAdd, 7, {here.sge(0, 8)}, there.address(), there.key);
  ASSERT_TRUE(harness.post(0, request));
  harness.run();
  ASSERT_EQ(harness.hosts[0].sends.all.size(), 1u);
  EXPECT_EQ(harness.hosts[0].sends.all[0].status, WcStatus::kRemoteOperation);
}

/// Who waits for no receiver does not wait for its memory: a message is lost, its receive is not.
TEST(BusyUnreliable, LosesAMessageAndKeepsItsReceive) {
  Options options;
  options.type = base::QpType::kUnreliable;
  Harness harness(options);
  harness.connect();
  Buffer& here = harness.hosts[0].allocate(kLength);
  Buffer& there = harness.hosts[1].allocate(kLength);
  here.fill(1);
  there.window->unmapped = here.window->unmapped = true;
  there.window->busy = here.window->busy = 1;
  harness.hosts[1].receives.post(9, {there.sge(0, kLength)});
  for (uint64_t id = 1; id <= 2; ++id) {
    ASSERT_TRUE(harness.post(0, make_request(WrOpcode::kSend, id, {here.sge(0, kLength)})));
  }
  harness.run();
  ASSERT_EQ(harness.hosts[0].sends.all.size(), 2u);
  EXPECT_EQ(harness.hosts[0].sends.all[1].status, WcStatus::kSuccess);
  ASSERT_EQ(harness.hosts[1].receives_done.all.size(), 1u);
  EXPECT_EQ(harness.hosts[1].receives_done.all[0].status, WcStatus::kSuccess);
  EXPECT_EQ(harness.hosts[1].receives_done.all[0].wr_id, 9u);
  EXPECT_EQ(std::memcmp(here.bytes.get(), there.bytes.get(), kLength), 0);
}

}  // namespace
}  // namespace flexins::transport::test
