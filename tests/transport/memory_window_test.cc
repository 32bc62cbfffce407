#include <cstring>

#include <gtest/gtest.h>

#include "harness.h"

/// Work requests that are done without a packet, SEND with invalidate, and atomic writes.

namespace flexins::transport::test {
namespace {

using base::QpState;
using base::WcStatus;
using base::WrOpcode;
using wire::Opcode;

struct Windows : testing::Test {
  void connect(const Options& options = {}) {
    harness = std::make_unique<Harness>(options);
    harness->connect();
    source = &harness->hosts[0].allocate(20'000);
    target = &harness->hosts[1].allocate(20'000, base::kAccessLocalWrite | base::kAccessMwBind);
    source->fill(1);
    target->fill(2);
    window = harness->hosts[1].regions.allocate_window({1}, base::MwType::kType2).value();
  }
  /// Binds the target's first 10,000 bytes for writing, under the window's key + 1.
  Request bind(uint64_t id, uint32_t access = base::kAccessRemoteWrite) {
    Request request = make_request(WrOpcode::kBindMw, id, {}, target->address(), window.value + 1);
    request.wqe.immediate = window.value;
    request.wqe.compare_add = 10'000;
    request.wqe.swap = uint64_t{access} << 32 | target->key;
    return request;
  }
  Request write(uint64_t id, size_t length = 100) {
    return make_request(WrOpcode::kRdmaWrite, id, {source->sge(0, length)}, target->address(),
                        window.value + 1);
  }
  Request invalidate(WrOpcode opcode, uint64_t id, uint32_t key) {
    Request request = make_request(opcode, id, {});
    request.wqe.immediate = key;
    return request;
  }
  const std::vector<Completion>& done(int host) { return harness->hosts[host].sends.all; }
  WcStatus last(int host) { return done(host).back().status; }

  std::unique_ptr<Harness> harness;
  Buffer* source = nullptr;
  Buffer* target = nullptr;
  base::MemoryKey window;
};

TEST_F(Windows, ABoundOneGrantsUntilItIsInvalidated) {
  connect();
  ASSERT_TRUE(harness->post(1, bind(1)));
  harness->settle();
  ASSERT_EQ(done(1).size(), 1u);
  EXPECT_EQ(done(1)[0].status, WcStatus::kSuccess);
  EXPECT_EQ(done(1)[0].opcode, base::WcOpcode::kBindMw);
  EXPECT_EQ(done(1)[0].retired, 1u);
  EXPECT_EQ(harness->packets_pulled, 0u);
  ASSERT_TRUE(harness->post(0, write(2, 5000)));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kSuccess);
  EXPECT_EQ(std::memcmp(source->bytes.get(), target->bytes.get(), 5000), 0);
  ASSERT_TRUE(harness->post(1, invalidate(WrOpcode::kLocalInvalidate, 3, window.value + 1)));
  harness->settle();
  EXPECT_EQ(done(1)[1].opcode, base::WcOpcode::kLocalInvalidate);
  EXPECT_EQ(last(1), WcStatus::kSuccess);
  ASSERT_TRUE(harness->post(0, write(4)));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kRemoteAccess);
}

TEST_F(Windows, ASendCanInvalidate) {
  connect();
  ASSERT_TRUE(harness->post(1, bind(1)));
  harness->settle();
  harness->hosts[1].receives.post(9, {target->sge(10'000, 5000)});
  Request send = invalidate(WrOpcode::kSendWithInvalidate, 2, window.value + 1);
  send.sges = {source->sge(0, 3000)};
  ASSERT_TRUE(harness->post(0, send));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kSuccess);
  EXPECT_EQ(done(0).back().opcode, base::WcOpcode::kSend);
  EXPECT_EQ(harness->sent(0, Opcode::kRcSendLastInvalidate), 1u);
  ASSERT_EQ(harness->hosts[1].receives_done.all.size(), 1u);
  const Completion& received = harness->hosts[1].receives_done.all[0];
  EXPECT_EQ(received.wc_flags, base::kWcWithInvalidate);
  EXPECT_EQ(received.immediate, window.value + 1);
  EXPECT_EQ(received.byte_length, 3000u);
  ASSERT_TRUE(harness->post(0, write(3)));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kRemoteAccess);
}

TEST_F(Windows, ASendThatInvalidatesNothingIsRefused) {
  connect();
  harness->hosts[1].receives.post(9, {});
  ASSERT_TRUE(harness->post(0, invalidate(WrOpcode::kSendWithInvalidate, 2, window.value + 1)));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kRemoteAccess);
  ASSERT_EQ(harness->hosts[1].receives_done.all.size(), 1u);
  EXPECT_EQ(harness->hosts[1].receives_done.all[0].status, WcStatus::kRemoteInvalidRequest);
  EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kError);
}

TEST_F(Windows, AWrongBindFailsItsQpOnly) {
  connect();
  Request wrong = bind(1, base::kAccessMwBind);
  ASSERT_TRUE(harness->post(1, wrong));
  ASSERT_TRUE(harness->post(1, bind(2)));
  harness->settle();
  ASSERT_EQ(done(1).size(), 2u);
  EXPECT_EQ(done(1)[0].status, WcStatus::kMwBind);
  EXPECT_EQ(done(1)[0].opcode, base::WcOpcode::kBindMw);
  EXPECT_EQ(done(1)[1].status, WcStatus::kWrFlush);
  EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kError);
  EXPECT_EQ(harness->hosts[0].qp->state(), QpState::kReadyToSend);
}

TEST_F(Windows, InvalidatingWhatIsNotBoundFails) {
  connect();
  for (const uint32_t key : {window.value + 1, target->key, 0u}) {
    connect();
    ASSERT_TRUE(harness->post(1, invalidate(WrOpcode::kLocalInvalidate, 1, key)));
    harness->settle();
    EXPECT_EQ(last(1), WcStatus::kMwBind);
  }
}

TEST_F(Windows, LocalRequestsCompleteInOrderWithOthers) {
  connect();
  // The first WRITE is lost once: what stands behind it completes behind it.
  harness->fate = [count = 0](Packet& packet) mutable {
    return packet.headers.bth.opcode == Opcode::kRcWriteOnly && count++ == 0 ? 0 : 1;
  };
  Buffer& mine = harness->hosts[1].allocate(1000);
  Buffer& theirs = harness->hosts[0].allocate(1000);
  const auto outgoing = [&](uint64_t id) {
    return make_request(WrOpcode::kRdmaWrite, id, {mine.sge(0, 100)}, theirs.address(), theirs.key);
  };
  ASSERT_TRUE(harness->post(1, outgoing(1)));
  ASSERT_TRUE(harness->post(1, bind(2)));
  ASSERT_TRUE(harness->post(1, invalidate(WrOpcode::kLocalInvalidate, 3, window.value + 1)));
  ASSERT_TRUE(harness->post(1, outgoing(4)));
  ASSERT_TRUE(harness->post(1, bind(5)));
  harness->collect();
  EXPECT_TRUE(done(1).empty());
  harness->run();
  ASSERT_EQ(done(1).size(), 5u);
  for (uint64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(done(1)[i].wr_id, i + 1);
    EXPECT_EQ(done(1)[i].status, WcStatus::kSuccess);
    EXPECT_EQ(done(1)[i].retired, i + 1);
  }
  EXPECT_EQ(harness->hosts[1].qp->outstanding_sends(), 0u);
}

TEST_F(Windows, TheLastPacketBeforeLocalRequestsAsksForAnAnswer) {
  connect();
  Buffer& mine = harness->hosts[1].allocate(1000);
  Buffer& theirs = harness->hosts[0].allocate(1000);
  ASSERT_TRUE(harness->post(
      1, make_request(WrOpcode::kRdmaWrite, 1, {mine.sge(0, 100)}, theirs.address(), theirs.key)));
  ASSERT_TRUE(harness->post(1, bind(2)));
  harness->settle();
  EXPECT_EQ(done(1).size(), 2u);
  EXPECT_EQ(harness->sent(1, Opcode::kRcWriteOnly), 1u);
}

TEST_F(Windows, AFenceHoldsALocalRequestToo) {
  connect();
  Buffer& theirs = harness->hosts[0].allocate(1000);
  Buffer& mine = harness->hosts[1].allocate(1000);
  ASSERT_TRUE(harness->post(
      1, make_request(WrOpcode::kRdmaRead, 1, {mine.sge(0, 100)}, theirs.address(), theirs.key)));
  Request fenced = bind(2);
  fenced.wqe.flags |= base::kSendFence;
  ASSERT_TRUE(harness->post(1, fenced));
  harness->collect();
  EXPECT_FALSE(harness->hosts[1].regions.invalidate({window.value + 1}, {1}, base::Qpn{0x101}))
      << "not bound yet";
  harness->settle();
  EXPECT_EQ(done(1).size(), 2u);
  EXPECT_TRUE(harness->hosts[1].regions.invalidate({window.value + 1}, {1}, base::Qpn{0x101}));
}

TEST_F(Windows, AnotherQpMayNotUseAWindowOfType2) {
  connect();
  memory::Binding other;
  other.window = window;
  other.new_key = {window.value + 1};
  other.region = {target->key};
  other.address = target->address();
  other.length = 1000;
  other.access = base::kAccessRemoteWrite;
  other.pd = {1};
  other.qpn = base::Qpn{0x555};
  ASSERT_TRUE(harness->hosts[1].regions.bind(other));
  ASSERT_TRUE(harness->post(0, write(1)));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kRemoteAccess);
}

struct AtomicWrites : Windows {
  void SetUp() override {
    connect();
    plain = &harness->hosts[1].allocate(64);
  }
  Request atomic_write(uint64_t id, size_t offset, size_t length = 8) {
    return make_request(WrOpcode::kAtomicWrite, id, {source->sge(offset, length)}, plain->address(),
                        plain->key);
  }
  uint64_t word(const Buffer& buffer, size_t offset = 0) {
    uint64_t value;
    std::memcpy(&value, buffer.bytes.get() + offset, sizeof value);
    return value;
  }
  Buffer* plain = nullptr;
};

TEST_F(AtomicWrites, StoreAWord) {
  ASSERT_TRUE(harness->post(0, atomic_write(1, 16)));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kSuccess);
  EXPECT_EQ(done(0)[0].opcode, base::WcOpcode::kAtomicWrite);
  EXPECT_EQ(word(*plain), word(*source, 16));
  EXPECT_EQ(harness->sent(1, Opcode::kRcReadResponseOnly), 1u);
}

TEST_F(AtomicWrites, BringTheirWordWithoutRoomForInlineData) {
  Options options;
  options.max_inline_bytes = 0;
  connect(options);
  plain = &harness->hosts[1].allocate(64);
  Request request = atomic_write(1, 16);
  request.wqe.flags |= base::kSendInline;
  request.inline_bytes.assign(8, std::byte{7});
  request.sges.clear();
  ASSERT_TRUE(harness->post(0, request));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kSuccess);
  EXPECT_EQ(word(*plain), 0x0707070707070707u);
}

TEST_F(AtomicWrites, AreExecutedOnce) {
  harness->fate = [count = 0](Packet& packet) mutable {
    return packet.headers.bth.opcode == Opcode::kRcReadResponseOnly && count++ == 0 ? 0 : 1;
  };
  ASSERT_TRUE(harness->post(0, atomic_write(1, 16)));
  harness->settle();
  const uint64_t later = 5;
  std::memcpy(plain->bytes.get(), &later, sizeof later);
  harness->run();
  EXPECT_EQ(last(0), WcStatus::kSuccess);
  EXPECT_EQ(word(*plain), 5u) << "the repetition must not store again";
}

TEST_F(AtomicWrites, KeepTheirRules) {
  ASSERT_TRUE(harness->post(0, atomic_write(1, 16, 4)));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kLocalLength);
  SetUp();
  Request misaligned = atomic_write(1, 16);
  misaligned.wqe.remote_address += 4;
  ASSERT_TRUE(harness->post(0, misaligned));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kRemoteInvalidRequest);
  SetUp();
  Request foreign = atomic_write(1, 16);
  foreign.wqe.remote_key ^= 1;
  ASSERT_TRUE(harness->post(0, foreign));
  harness->settle();
  EXPECT_EQ(last(0), WcStatus::kRemoteAccess);
}

}  // namespace
}  // namespace flexins::transport::test
