#include <cstring>

#include <gtest/gtest.h>

#include "harness.h"

/// Losses, one at a time: what is sent again, how often, and when it is given up.

namespace flexins::transport::test {
namespace {

using base::QpState;
using base::WcStatus;
using base::WrOpcode;
using wire::Opcode;

struct Recovery : testing::Test {
  void connect(const Options& options = {}) {
    harness = std::make_unique<Harness>(options);
    harness->connect();
    source = &harness->hosts[0].allocate(200'000);
    target = &harness->hosts[1].allocate(200'000);
    source->fill(1);
    target->fill(2);
  }
  Request operation(WrOpcode opcode, uint64_t id, size_t length) {
    return make_request(opcode, id, {source->sge(0, length)}, target->address(), target->key);
  }
  /// Loses the n-th packet (from 0) that `host` sends with `opcode`.
  void lose(int host, Opcode opcode, int nth) {
    harness->fate = [=, count = 0](Packet& packet) mutable {
      const bool it = packet.from == host && packet.headers.bth.opcode == opcode;
      return it && count++ == nth ? 0 : 1;
    };
  }
  const QpCounters& counters(int host) { return harness->hosts[host].qp->counters(); }
  const std::vector<Completion>& done() { return harness->hosts[0].sends.all; }
  void expect_success(size_t count) {
    ASSERT_EQ(done().size(), count);
    for (const Completion& c : done()) EXPECT_EQ(c.status, WcStatus::kSuccess);
  }
  bool same(size_t length) {
    return std::memcmp(source->bytes.get(), target->bytes.get(), length) == 0;
  }

  std::unique_ptr<Harness> harness;
  Buffer* source = nullptr;
  Buffer* target = nullptr;
};

TEST_F(Recovery, LostMiddleDrawsOneNakAndOneRewind) {
  connect();
  lose(0, Opcode::kRcWriteMiddle, 3);
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 20 * 1024)));
  const base::TimeNs begin = harness->now;
  harness->run();
  expect_success(1);
  EXPECT_TRUE(same(20 * 1024));
  EXPECT_EQ(harness->now, begin) << "no timer was needed";
  EXPECT_EQ(counters(1).naks_sent, 1u);
  EXPECT_EQ(counters(0).naks_received, 1u);
  EXPECT_EQ(counters(0).packets_retransmitted, 16u);  // the lost one and the 15 behind it
}

TEST_F(Recovery, LostLastIsRepeatedByTheTimer) {
  connect();
  lose(0, Opcode::kRcWriteLast, 0);
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 5000)));
  const base::TimeNs begin = harness->now;
  harness->run();
  expect_success(1);
  EXPECT_TRUE(same(5000));
  EXPECT_EQ(harness->now, begin + ack_timeout(14));
  EXPECT_EQ(counters(0).timeouts, 1u);
}

TEST_F(Recovery, LostAckIsRepeatedForTheDuplicate) {
  connect();
  lose(1, Opcode::kRcAcknowledge, 0);
  harness->hosts[1].receives.post(1, {target->sge(0, 100)});
  harness->hosts[1].receives.post(2, {target->sge(0, 100)});
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kSend, 1, 100)));
  harness->run();
  expect_success(1);
  EXPECT_EQ(counters(1).duplicates_received, 1u);
  EXPECT_EQ(harness->hosts[1].receives_done.all.size(), 1u) << "received once";
}

TEST_F(Recovery, LostNakIsHealedByTheTimer) {
  connect();
  harness->fate = [lost_middle = false, lost_nak = false](Packet& p) mutable {
    if (p.headers.bth.opcode == Opcode::kRcWriteMiddle && !lost_middle) {
      lost_middle = true;
      return 0;
    }
    if (p.headers.bth.opcode == Opcode::kRcAcknowledge && !lost_nak) {
      EXPECT_EQ(p.headers.aeth.syndrome, wire::kSyndromeNakSequence);
      lost_nak = true;
      return 0;
    }
    return 1;
  };
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 9000)));
  harness->run();
  expect_success(1);
  EXPECT_TRUE(same(9000));
  EXPECT_EQ(counters(0).timeouts, 1u);
}

TEST_F(Recovery, EveryReadResponseInTurn) {
  for (int nth = 0; nth < 21; ++nth) {
    for (Opcode opcode : {Opcode::kRcReadResponseFirst, Opcode::kRcReadResponseMiddle,
                          Opcode::kRcReadResponseLast}) {
      SCOPED_TRACE(nth);
      Options options;
      options.read_chunk_bytes = 8 * 1024;
      connect(options);
      lose(1, opcode, nth);
      ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaRead, 1, 25'000)));
      ASSERT_TRUE(
          harness->post(0, make_request(WrOpcode::kRdmaWrite, 2, {source->sge(100'000, 3000)},
                                        target->address(100'000), target->key)));
      harness->run();
      expect_success(2);
      EXPECT_TRUE(same(25'000));
      EXPECT_LE(counters(0).timeouts, 0u) << "the ACK behind it shows the loss";
      EXPECT_LE(counters(0).packets_retransmitted, 5u);
    }
  }
}

TEST_F(Recovery, LostReadResponseAsksForTheRestOnly) {
  connect();
  std::vector<wire::Headers> asked;
  std::vector<wire::Headers> answers;
  harness->fate = [&](Packet& p) {
    if (p.headers.bth.opcode == Opcode::kRcReadRequest) asked.push_back(p.headers);
    if (p.from == 1) answers.push_back(p.headers);
    return p.from == 1 && answers.size() == 3 ? 0 : 1;
  };
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaRead, 1, 10 * 1024)));
  harness->run();
  expect_success(1);
  EXPECT_TRUE(same(10 * 1024));
  ASSERT_EQ(asked.size(), 2u) << "asked again once, not per response behind the gap";
  EXPECT_EQ(asked[1].reth.address, asked[0].reth.address + 2048);
  EXPECT_EQ(asked[1].reth.length, 8 * 1024u);
  EXPECT_EQ(asked[1].bth.psn, asked[0].bth.psn + 2);
  ASSERT_EQ(answers.size(), 18u);
  EXPECT_EQ(answers[10].bth.opcode, Opcode::kRcReadResponseMiddle);
  EXPECT_EQ(answers[10].bth.psn, asked[1].bth.psn);
  EXPECT_EQ(counters(0).out_of_sequence_received, 7u);
}

TEST_F(Recovery, ReadAnsweredWithFirstAfterAGapIsAccepted) {
  connect();
  int answers = 0;
  harness->fate = [&](Packet& p) {
    if (p.from == 1 && ++answers == 2) return 0;
    if (p.from == 1 && answers == 5) {
      EXPECT_EQ(p.headers.bth.opcode, Opcode::kRcReadResponseMiddle);
      p.headers.bth.opcode = Opcode::kRcReadResponseFirst;
      p.headers.aeth.syndrome = wire::kSyndromeAck;
    }
    return 1;
  };
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaRead, 1, 4 * 1024)));
  harness->run();
  expect_success(1);
  EXPECT_TRUE(same(4 * 1024));
}

TEST_F(Recovery, AtomicIsExecutedOnceHoweverOftenAsked) {
  connect();
  uint64_t value = 40;
  std::memcpy(target->bytes.get(), &value, 8);
  lose(1, Opcode::kRcAtomicAcknowledge, 0);
  Request request = operation(WrOpcode::kFetchAdd, 1, 8);
  request.wqe.compare_add = 2;
  ASSERT_TRUE(harness->post(0, request));
  harness->run();
  expect_success(1);
  EXPECT_EQ(done()[0].byte_length, 8u);
  std::memcpy(&value, source->bytes.get(), 8);
  EXPECT_EQ(value, 40u);
  std::memcpy(&value, target->bytes.get(), 8);
  EXPECT_EQ(value, 42u);
}

TEST_F(Recovery, RepetitionsGiveWayToNewRequests) {
  Options options;
  options.max_rd_atomic = options.max_dest_rd_atomic = 1;
  connect(options);
  std::memset(target->bytes.get(), 0, 8);
  Request request = operation(WrOpcode::kFetchAdd, 1, 8);
  request.wqe.compare_add = 1;
  ASSERT_TRUE(harness->post(0, request));
  ASSERT_TRUE(harness->post(0, request));
  const auto first = harness->pull(0);
  ASSERT_TRUE(first);
  harness->deliver(*first);
  const auto answer = harness->pull(1);
  ASSERT_TRUE(answer);
  harness->deliver(*answer);
  const auto second = harness->pull(0);
  ASSERT_TRUE(second);
  // The network brings the first once more, and right behind it the second: there is one place.
  harness->deliver(*first);
  harness->deliver(*second);
  harness->settle();
  expect_success(2);
  uint64_t value = 0;
  std::memcpy(&value, target->bytes.get(), 8);
  EXPECT_EQ(value, 2u);
}

TEST_F(Recovery, CompareSwapSwapsOnlyWhenEqual) {
  for (bool unmapped : {false, true}) {
    connect();
    target->window->unmapped = unmapped;
    uint64_t value = 5;
    std::memcpy(target->bytes.get(), &value, 8);
    for (uint64_t compare : {5ull, 5ull}) {
      Request request = operation(WrOpcode::kCompareSwap, 1, 8);
      request.wqe.compare_add = compare;
      request.wqe.swap = 9;
      ASSERT_TRUE(harness->post(0, request));
      harness->settle();
    }
    std::memcpy(&value, target->bytes.get(), 8);
    EXPECT_EQ(value, 9u);
    std::memcpy(&value, source->bytes.get(), 8);
    EXPECT_EQ(value, 9u) << "the second found what the first had stored";
  }
}

TEST_F(Recovery, RetryCountIsExact) {
  for (uint8_t retries = 0; retries <= 7; ++retries) {
    Options options;
    options.retry_count = retries;
    connect(options);
    harness->fate = [](Packet&) { return 0; };
    const base::TimeNs begin = harness->now;
    ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 100)));
    ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 2, 100)));
    harness->run();
    ASSERT_EQ(done().size(), 2u);
    EXPECT_EQ(done()[0].status, WcStatus::kRetryExceeded);
    EXPECT_EQ(done()[1].status, WcStatus::kWrFlush);
    EXPECT_EQ(counters(0).packets_sent, 2u * (retries + 1u));
    EXPECT_EQ(harness->now - begin, (retries + 1u) * ack_timeout(14));
    EXPECT_EQ(harness->hosts[0].qp->state(), QpState::kError);
  }
}

TEST_F(Recovery, ProgressRestoresTheRetries) {
  Options options;
  options.retry_count = 1;
  options.max_send_wr = 1;
  connect(options);
  harness->fate = [n = 0](Packet& p) mutable { return p.from == 0 && n++ % 2 == 0 ? 0 : 1; };
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 100)));
    harness->run();
  }
  expect_success(5);
}

TEST_F(Recovery, TimeoutZeroWaitsForEver) {
  Options options;
  options.timeout = 0;
  connect(options);
  harness->fate = [](Packet&) { return 0; };
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 100)));
  harness->run();
  EXPECT_TRUE(done().empty());
  EXPECT_EQ(harness->hosts[0].qp->deadline(), base::kNever);
}

TEST_F(Recovery, RnrWaitsAsToldAndThenSucceeds) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kSend, 1, 3000)));
  harness->settle();
  EXPECT_EQ(harness->sent(1, Opcode::kRcAcknowledge), 1u) << "one RNR NAK, nothing else";
  EXPECT_EQ(counters(1).rnr_naks_sent, 1u);
  EXPECT_EQ(harness->hosts[0].qp->deadline(), harness->now + rnr_wait(12));
  EXPECT_EQ(harness->hosts[0].window.in_flight_bytes, 0u);
  EXPECT_FALSE(harness->pull(0).has_value());
  harness->hosts[1].receives.post(1, {target->sge(0, 3000)});
  harness->run();
  expect_success(1);
  EXPECT_TRUE(same(3000));
}

TEST_F(Recovery, RnrRetryIsExactAndSevenIsForEver) {
  for (uint8_t retries : {0, 1, 3, 6}) {
    Options options;
    options.rnr_retry = retries;
    connect(options);
    ASSERT_TRUE(harness->post(0, operation(WrOpcode::kSend, 1, 100)));
    harness->run();
    ASSERT_EQ(done().size(), 1u);
    EXPECT_EQ(done()[0].status, WcStatus::kRnrRetryExceeded);
    EXPECT_EQ(counters(0).packets_sent, retries + 1u);
  }
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kSend, 1, 100)));
  for (int i = 0; i < 500; ++i) {
    harness->settle();
    ASSERT_TRUE(harness->step_time());
  }
  EXPECT_TRUE(done().empty());
  EXPECT_EQ(counters(0).timeouts, 0u);
}

TEST_F(Recovery, WriteWithImmediateIsRefusedAtItsLastPacketOnly) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWriteWithImmediate, 1, 5000)));
  harness->settle();
  EXPECT_EQ(counters(0).rnr_naks_received, 1u);
  harness->hosts[1].receives.post(1, {});
  harness->run();
  expect_success(1);
  EXPECT_TRUE(same(5000));
  EXPECT_EQ(counters(0).packets_retransmitted, 1u);
}

TEST_F(Recovery, StaleAndGhostAcksAreDropped) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 100)));
  harness->settle();
  expect_success(1);
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 2, 100)));
  const Packet request = *harness->pull(0);
  Packet forged;
  forged.from = 1;
  forged.headers.bth.opcode = Opcode::kRcAcknowledge;
  const uint64_t before = counters(0).dropped_received;
  uint64_t forged_count = 0;
  for (uint8_t syndrome : {uint8_t{0x1f}, uint8_t{0x20}, uint8_t{0x60}, uint8_t{0x62}}) {
    for (int off : {-1, 1, 1000, -1000, 1 << 22}) {
      forged.headers.bth.psn = request.headers.bth.psn + static_cast<uint32_t>(off);
      forged.headers.aeth.syndrome = syndrome;
      harness->deliver(forged);
      ++forged_count;
    }
  }
  EXPECT_EQ(counters(0).dropped_received - before, forged_count);
  EXPECT_EQ(done().size(), 1u);
  EXPECT_EQ(harness->hosts[0].qp->state(), QpState::kReadyToSend);
  harness->deliver(request);
  harness->settle();
  expect_success(2);
}

TEST_F(Recovery, ForgedNaksCauseOneRewindOnly) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 20 * 1024)));
  Packet nak;
  nak.from = 1;
  nak.headers.bth.opcode = Opcode::kRcAcknowledge;
  nak.headers.aeth.syndrome = wire::kSyndromeNakSequence;
  nak.headers.bth.psn = base::Psn(harness->options.psn[0] + 2);
  uint64_t pulled = 0;
  for (int round = 0; round < 50; ++round) {
    while (harness->pull(0)) ++pulled;
    harness->deliver(nak);
  }
  EXPECT_EQ(pulled, 20u + 18u);
}

TEST_F(Recovery, WrongResponseKindIsABadResponse) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaRead, 1, 1024)));
  ASSERT_TRUE(harness->pull(0).has_value());
  Packet answer;
  answer.from = 1;
  answer.headers.bth.opcode = Opcode::kRcReadResponseOnly;
  answer.headers.bth.psn = base::Psn(harness->options.psn[0]);
  answer.headers.aeth.syndrome = wire::kSyndromeAck;
  answer.payload.resize(1000);  // 1024 were asked for
  harness->deliver(answer);
  ASSERT_EQ(done().size(), 1u);
  EXPECT_EQ(done()[0].status, WcStatus::kBadResponse);
}

}  // namespace
}  // namespace flexins::transport::test
