#include <gtest/gtest.h>

#include "harness.h"

/// States: what a QP does and does not do in each, draining, flushing, forgetting.

namespace flexins::transport::test {
namespace {

using base::AsyncEvent;
using base::QpState;
using base::WcStatus;
using base::WrOpcode;

struct Flush : testing::Test {
  Flush() {
    harness.connect();
    source = &harness.hosts[0].allocate(100'000);
    target = &harness.hosts[1].allocate(100'000);
  }
  Request write(uint64_t id, size_t length = 100) {
    return make_request(WrOpcode::kRdmaWrite, id, {source->sge(0, length)}, target->address(),
                        target->key);
  }
  Harness harness;
  Buffer* source;
  Buffer* target;
};

TEST(States, SendsAreRefusedBeforeReadyToSend) {
  Harness harness;
  const Request request = make_request(WrOpcode::kSend, 1, {});
  EXPECT_FALSE(harness.post(0, request));
  harness.to_init(0);
  EXPECT_FALSE(harness.post(0, request));
  harness.to_rtr(0);
  EXPECT_FALSE(harness.post(0, request));
  harness.to_rts(0);
  EXPECT_TRUE(harness.post(0, request));
}

TEST(States, PacketsBeforeReadyToReceiveAreDropped) {
  Harness harness;
  for (int i = 0; i < 1; ++i) {
    harness.to_init(0);
    harness.to_rtr(0);
    harness.to_rts(0);
  }
  harness.to_init(1);
  ASSERT_TRUE(harness.post(0, make_request(WrOpcode::kSend, 1, {})));
  harness.settle();
  EXPECT_EQ(harness.hosts[1].qp->counters().dropped_received, 1u);
  EXPECT_TRUE(harness.hosts[0].sends.all.empty());
}

TEST(States, FirstPacketInReadyToReceiveEstablishes) {
  Harness harness;
  for (int i = 0; i < 2; ++i) {
    harness.to_init(i);
    harness.to_rtr(i);
  }
  harness.to_rts(0);
  for (int i = 0; i < 2; ++i) {
    harness.hosts[1].receives.post(1, {});
    ASSERT_TRUE(harness.post(0, make_request(WrOpcode::kSend, 1, {})));
  }
  harness.settle();
  EXPECT_EQ(harness.hosts[0].sends.all.size(), 2u);  // ready to receive answers
  EXPECT_EQ(harness.hosts[1].observer.events,
            std::vector<AsyncEvent>{AsyncEvent::kCommunicationEstablished});
}

TEST(States, AnErrorLeavesSharedReceivesAlone) {
  Options options;
  options.shared_receives = true;
  Harness harness(options);
  harness.connect();
  Host& host = harness.hosts[1];
  Buffer& sink = host.allocate(8192);
  for (uint64_t i = 0; i < 3; ++i) host.receives.post(i, {sink.sge(0, 8192)});
  Buffer& source = harness.hosts[0].allocate(8192);
  ASSERT_TRUE(harness.post(0, make_request(WrOpcode::kSend, 1, {source.sge(0, 4096)})));
  harness.deliver(*harness.pull(0));  // the first of four packets: it has taken one
  ASSERT_TRUE(harness.modify(1, QpState::kError).ok());
  host.qp->flush_receives();
  ASSERT_EQ(host.receives_done.all.size(), 1u);
  EXPECT_EQ(host.receives_done.all[0].wr_id, 0u);
  EXPECT_EQ(host.receives_done.all[0].status, WcStatus::kWrFlush);
  EXPECT_EQ(host.receives.posted.size(), 2u);
  EXPECT_EQ(host.observer.events, std::vector<AsyncEvent>{AsyncEvent::kLastWqeReached});
}

TEST_F(Flush, ErrorFlushesSendsAndReceivesInOrder) {
  for (uint64_t i = 0; i < 5; ++i) {
    Request request = write(i);
    if (i % 2 == 1) request.wqe.flags = 0;  // unsignalled ones are flushed aloud too
    ASSERT_TRUE(harness.post(0, request));
    harness.hosts[0].receives.post(100 + i, {});
  }
  ASSERT_TRUE(harness.pull(0).has_value());
  ASSERT_TRUE(harness.modify(0, QpState::kError).ok());
  const auto& done = harness.hosts[0].sends.all;
  ASSERT_EQ(done.size(), 5u);
  const auto& received = harness.hosts[0].receives_done.all;
  ASSERT_EQ(received.size(), 5u);
  for (uint64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(done[i].wr_id, i);
    EXPECT_EQ(done[i].status, WcStatus::kWrFlush);
    EXPECT_EQ(done[i].retired, i + 1);
    EXPECT_EQ(received[i].wr_id, 100 + i);
    EXPECT_EQ(received[i].status, WcStatus::kWrFlush);
    EXPECT_TRUE(received[i].solicited);
  }
  EXPECT_EQ(harness.hosts[0].window.in_flight_bytes, 0u);
  EXPECT_EQ(harness.hosts[0].qp->deadline(), base::kNever);
  EXPECT_FALSE(harness.pull(0).has_value());
  // What is posted later is flushed at once.
  ASSERT_TRUE(harness.post(0, write(9)));
  ASSERT_EQ(done.size(), 6u);
  EXPECT_EQ(done[5].wr_id, 9u);
  EXPECT_EQ(done[5].retired, 6u);
  harness.hosts[0].receives.post(200, {});
  harness.hosts[0].qp->flush_receives();
  EXPECT_EQ(received.back().wr_id, 200u);
}

TEST_F(Flush, HalfReceivedMessageIsFlushedFirst) {
  harness.hosts[1].receives.post(1, {target->sge(0, 10'000)});
  harness.hosts[1].receives.post(2, {target->sge(0, 10'000)});
  ASSERT_TRUE(harness.post(0, make_request(WrOpcode::kSend, 1, {source->sge(0, 5000)})));
  harness.deliver(*harness.pull(0));
  ASSERT_TRUE(harness.modify(1, QpState::kError).ok());
  const auto& received = harness.hosts[1].receives_done.all;
  ASSERT_EQ(received.size(), 2u);
  EXPECT_EQ(received[0].wr_id, 1u);
  EXPECT_EQ(received[1].wr_id, 2u);
  EXPECT_EQ(received[0].status, WcStatus::kWrFlush);
}

TEST_F(Flush, ResetForgetsAndTheQpConnectsAgain) {
  for (uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(harness.post(0, write(i, 5000)));
  ASSERT_TRUE(harness.collect());
  harness.link.clear();
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(harness.modify(i, QpState::kReset).ok());
  EXPECT_TRUE(harness.hosts[0].sends.all.empty());
  EXPECT_EQ(harness.hosts[0].window.in_flight_bytes, 0u);
  EXPECT_EQ(harness.hosts[0].qp->outstanding_sends(), 0u);
  EXPECT_EQ(harness.hosts[0].qp->deadline(), base::kNever);
  harness.options.psn[0] = 0xfffffe;
  harness.connect();
  ASSERT_TRUE(harness.post(0, write(7, 9000)));
  harness.settle();
  ASSERT_EQ(harness.hosts[0].sends.all.size(), 1u);
  EXPECT_EQ(harness.hosts[0].sends.all[0].status, WcStatus::kSuccess);
  EXPECT_EQ(harness.hosts[0].sends.all[0].retired, 1u);
}

TEST_F(Flush, DrainFinishesWhatWasBegunAndHoldsTheRest) {
  ASSERT_TRUE(harness.post(0, write(1, 5000)));
  ASSERT_TRUE(harness.post(0, write(2, 5000)));
  harness.deliver(*harness.pull(0));
  ASSERT_TRUE(harness.modify(0, QpState::kSendQueueDrained, base::kQpEnableSqdNotify).ok());
  EXPECT_EQ(harness.hosts[0].qp->query().sq_draining, 1);
  EXPECT_FALSE(harness.modify(0, QpState::kReadyToSend).ok()) << "still draining";
  ASSERT_TRUE(harness.post(0, write(3)));
  harness.settle();
  ASSERT_EQ(harness.hosts[0].sends.all.size(), 1u);
  EXPECT_EQ(harness.hosts[0].sends.all[0].wr_id, 1u);
  EXPECT_EQ(harness.hosts[0].observer.events, std::vector<AsyncEvent>{AsyncEvent::kSqDrained});
  EXPECT_EQ(harness.hosts[0].qp->query().sq_draining, 0);
  ASSERT_TRUE(harness.modify(0, QpState::kReadyToSend).ok());
  harness.settle();
  EXPECT_EQ(harness.hosts[0].sends.all.size(), 3u);
}

TEST_F(Flush, DrainOfAnIdleQueueIsImmediate) {
  ASSERT_TRUE(harness.modify(0, QpState::kSendQueueDrained, base::kQpEnableSqdNotify).ok());
  EXPECT_EQ(harness.hosts[0].observer.events, std::vector<AsyncEvent>{AsyncEvent::kSqDrained});
  ASSERT_TRUE(harness.modify(0, QpState::kReadyToSend).ok());
}

TEST_F(Flush, FullQueueRefusesAndRecovers) {
  for (uint64_t i = 0; i < harness.options.max_send_wr; ++i) ASSERT_TRUE(harness.post(0, write(i)));
  EXPECT_FALSE(harness.post(0, write(99)));
  EXPECT_EQ(harness.hosts[0].qp->outstanding_sends(), harness.options.max_send_wr);
  harness.settle();
  EXPECT_TRUE(harness.post(0, write(99)));
}

}  // namespace
}  // namespace flexins::transport::test
