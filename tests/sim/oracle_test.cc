#include <gtest/gtest.h>

#include <cstring>

#include "sim/oracle.h"

/// The oracle sees what it is there to see.

namespace flexins::sim {
namespace {

using base::WcStatus;
using base::WrOpcode;

class Judge : public testing::Test {
 protected:
  static constexpr uint32_t kBytes = 100;

  Judge() {
    for (QpLedger** qp : {&a, &b}) {
      QpLedger ledger;
      ledger.host = qp == &a ? 0 : 1;
      ledger.qpn = qp == &a ? 10 : 20;
      ledger.arena = qp == &a ? memory[0] : memory[1];
      *qp = &oracle.open(std::move(ledger));
    }
    a->peer = b;
    b->peer = a;
  }

  /// A SEND from a with a receive for it at b.
  void post_message(uint64_t wr_id, bool signalled = true) {
    SendRecord send;
    send.wr_id = wr_id;
    send.signalled = signalled;
    send.length = kBytes;
    send.content = {{memory[0]->at(memory[0]->base() + wr_id), kBytes}};
    oracle.posted(*a, std::move(send));
    ReceiveRecord receive;
    receive.wr_id = wr_id;
    receive.capacity = kBytes;
    receive.landings = {{*memory[1]->allocate(kBytes), kBytes}};
    landings.push_back(receive.landings[0].address);
    oracle.posted(*b, std::move(receive));
  }
  void arrive(size_t index, uint64_t wr_id) {
    std::memcpy(memory[1]->at(landings[index]), memory[0]->at(memory[0]->base() + wr_id), kBytes);
  }
  void done(QpLedger& qp, bool is_send, uint64_t wr_id, WcStatus status = WcStatus::kSuccess) {
    pipe::CompletionEntry entry{};
    entry.wr_id = wr_id;
    entry.qpn = qp.qpn;
    entry.source_qpn = qp.peer->qpn;
    entry.status = static_cast<uint8_t>(status);
    entry.is_send = is_send ? 1 : 0;
    entry.opcode = static_cast<uint8_t>(is_send ? base::WcOpcode::kSend : base::WcOpcode::kReceive);
    entry.byte_length = is_send ? 0 : kBytes;
    entry.retired = static_cast<uint32_t>(wr_id);
    oracle.completed(qp, entry);
  }
  void expect_violation(const char* invariant) {
    ASSERT_TRUE(oracle.broken());
    EXPECT_EQ(oracle.violation()->invariant, invariant);
  }

  Scenario scenario = Scenario::draw(1, Profile::kAny, 1);
  EventQueue events;
  FaultCounts faults;
  Trace trace;
  Fabric fabric{events, scenario, faults, trace, nullptr};
  Oracle oracle{events, fabric, trace};
  std::shared_ptr<Arena> memory[2] = {
      std::make_shared<Arena>(uint64_t{1} << 32, 4096, 65536, Random(1)),
      std::make_shared<Arena>(uint64_t{2} << 32, 4096, 65536, Random(2))};
  QpLedger* a = nullptr;
  QpLedger* b = nullptr;
  std::vector<uint64_t> landings;
};

TEST_F(Judge, AcceptsWhatIsRight) {
  post_message(1, false);
  post_message(2);
  arrive(0, 1);
  arrive(1, 2);
  done(*b, false, 1);
  done(*b, false, 2);
  done(*a, true, 2);
  EXPECT_FALSE(oracle.broken()) << oracle.violation()->detail;
  EXPECT_TRUE(oracle.drained(*a));
}

TEST_F(Judge, SeesACompletionBeforeItsDelivery) {
  post_message(1);
  done(*a, true, 1);
  expect_violation("completion before delivery");
}

TEST_F(Judge, SeesWrongData) {
  post_message(1);
  arrive(0, 1);
  *memory[1]->at(landings[0] + 99) ^= std::byte{1};
  done(*b, false, 1);
  expect_violation("data");
}

TEST_F(Judge, SeesDataThatIsNotThereYet) {
  post_message(1);
  done(*b, false, 1);
  expect_violation("data");
}

TEST_F(Judge, SeesAMessageInThePlaceOfAnother) {
  post_message(1);
  post_message(2);
  arrive(0, 2);
  done(*b, false, 1);
  expect_violation("data");
}

TEST_F(Judge, SeesAMessageTwice) {
  post_message(1);
  post_message(2);
  arrive(0, 1);
  arrive(1, 1);
  done(*b, false, 1);
  done(*b, false, 2);
  expect_violation("data");
}

TEST_F(Judge, SeesASendPassedOver) {
  post_message(1);
  post_message(2);
  done(*a, true, 2);
  expect_violation("completion order");
}

TEST_F(Judge, SeesACompletionTwice) {
  post_message(1);
  arrive(0, 1);
  done(*b, false, 1);
  done(*a, true, 1);
  done(*a, true, 1);
  expect_violation("one completion");
}

TEST_F(Judge, SeesACompletionThatNobodyAskedFor) {
  post_message(1, false);
  arrive(0, 1);
  done(*b, false, 1);
  done(*a, true, 1);
  expect_violation("one completion");
}

TEST_F(Judge, SeesAnErrorWithoutReason) {
  post_message(1);
  done(*a, true, 1, WcStatus::kRetryExceeded);
  expect_violation("status");
}

TEST_F(Judge, KnowsRetriesThatWereSpent) {
  post_message(1);
  for (int i = 0; i < 8; ++i) fabric.disturb(0, 1);
  done(*a, true, 1, WcStatus::kRetryExceeded);
  EXPECT_FALSE(oracle.broken());
}

TEST_F(Judge, SeesWhatWasNotFlushed) {
  post_message(1);
  oracle.may_fail(*a, "told to");
  oracle.check_flushed(*a);
  expect_violation("flush");
}

TEST_F(Judge, SeesASuccessAfterAnError) {
  post_message(1);
  post_message(2);
  oracle.may_fail(*a, "told to");
  done(*a, true, 1, WcStatus::kWrFlush);
  done(*a, true, 2);
  expect_violation("flush");
}

TEST_F(Judge, SeesAChangedGuardByte) {
  post_message(1);
  arrive(0, 1);
  *memory[1]->at(landings[0] + kBytes) = std::byte{0};
  done(*b, false, 1);
  expect_violation("guard bytes");
}

TEST_F(Judge, SeesAWriteToMemoryThatNobodyHolds) {
  post_message(1);
  arrive(0, 1);
  done(*b, false, 1);
  *memory[1]->at(landings[0]) = std::byte{0};
  oracle.check_arena(*memory[1], "b");
  expect_violation("placement");
}

TEST_F(Judge, SeesAnAdditionDoneTwice) {
  Counter& counter = oracle.open_counter(memory[1], *memory[1]->allocate(8), false);
  counter.changes = {{0, 0, 1, 2}};
  const uint64_t value = 2;
  std::memcpy(memory[1]->at(counter.address), &value, sizeof value);
  oracle.check_counters();
  expect_violation("atomics");
}

TEST_F(Judge, SeesAnAdditionThatSawThePast) {
  Counter& counter = oracle.open_counter(memory[1], *memory[1]->allocate(8), false);
  // The second to be posted, after the first had ended, saw the earlier value.
  counter.changes = {{1, 0, 10, 20}, {0, 0, 30, 40}};
  const uint64_t value = 2;
  std::memcpy(memory[1]->at(counter.address), &value, sizeof value);
  oracle.check_counters();
  expect_violation("atomics");
}

}  // namespace
}  // namespace flexins::sim
