#include <cstring>

#include <gtest/gtest.h>

#include "harness.h"
#include "transport/request_opcode.h"
#include "transport/state_machine.h"

/// Extended reliable connections (IBTA annex A14): an initiator on host 0, a target on host 1 whose
/// domain has two SRQs in different protection domains.

namespace flexins::transport::test {
namespace {

using base::AsyncEvent;
using base::QpState;
using base::QpType;
using base::WcStatus;
using base::WrOpcode;
using wire::Opcode;

constexpr uint32_t kFirstSrq = 0x111;
constexpr uint32_t kSecondSrq = 0x222;
constexpr base::PdId kFirstPd{7};
constexpr base::PdId kSecondPd{8};

Opcode xrc(Opcode operation) {
  return in_class(wire::TransportClass::kExtendedReliable, operation);
}

struct Xrc : testing::Test {
  void connect(Options options = {}) {
    options.type = QpType::kXrcSend;
    options.shared_receives = true;
    harness = std::make_unique<Harness>(options);
    Host& target_host = harness->hosts[1];
    target_host.domain.queues = {{kFirstSrq, {&receives[0], &done[0], kFirstPd}},
                                 {kSecondSrq, {&receives[1], &done[1], kSecondPd}}};
    harness->connect();
    source = &harness->hosts[0].allocate(200'000);
    memory[0] = &target_host.allocate(200'000, kAllAccess, kFirstPd);
    memory[1] = &target_host.allocate(200'000, kAllAccess, kSecondPd);
    source->fill(1);
  }
  Request request(WrOpcode opcode, uint32_t srqn, size_t length, const Buffer* remote = nullptr) {
    Request made =
        make_request(opcode, 5, {source->sge(0, length)}, remote != nullptr ? remote->address() : 0,
                     remote != nullptr ? remote->key : 0);
    made.wqe.remote_srqn = srqn;
    return made;
  }
  void send(uint32_t srqn, size_t length) {
    ASSERT_TRUE(harness->post(0, request(WrOpcode::kSend, srqn, length)));
  }
  bool same(int queue, size_t length) {
    return std::memcmp(source->bytes.get(), memory[queue]->bytes.get(), length) == 0;
  }
  const std::vector<Completion>& sent() { return harness->hosts[0].sends.all; }
  void expect_refused(WcStatus status) {
    ASSERT_EQ(sent().size(), 1u);
    EXPECT_EQ(sent()[0].status, status);
    EXPECT_EQ(harness->hosts[0].qp->state(), QpState::kError);
    EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kError);
  }

  TestReceives receives[2];
  TestSink done[2];
  std::unique_ptr<Harness> harness;
  Buffer* source = nullptr;
  Buffer* memory[2] = {};
};

TEST_F(Xrc, ReceivesFromTheSrqThatIsNamed) {
  connect();
  for (int i = 0; i < 2; ++i) receives[i].post(40 + i, {memory[i]->sge(0, 100'000)});
  send(kSecondSrq, 5000);
  send(kFirstSrq, 3000);
  harness->settle();
  ASSERT_EQ(sent().size(), 2u);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(done[i].all.size(), 1u);
    EXPECT_EQ(done[i].all[0].wr_id, 40u + i);
    EXPECT_EQ(done[i].all[0].status, WcStatus::kSuccess);
    EXPECT_EQ(done[i].all[0].qpn, base::Qpn{0x101});
    EXPECT_TRUE(same(i, i == 0 ? 3000 : 5000));
  }
  EXPECT_TRUE(harness->hosts[1].receives_done.all.empty());
}

TEST_F(Xrc, SpeaksItsOwnOpcodesBothWays) {
  connect();
  receives[0].post(1, {memory[0]->sge(0, 100'000)});
  std::vector<wire::Headers> seen[2];
  harness->fate = [&](Packet& packet) {
    seen[packet.from].push_back(packet.headers);
    return 1;
  };
  send(kFirstSrq, 3000);
  harness->settle();
  ASSERT_EQ(seen[0].size(), 3u);
  for (const wire::Headers& headers : seen[0]) EXPECT_EQ(headers.xrceth.srqn, kFirstSrq);
  EXPECT_EQ(seen[0][0].bth.opcode, xrc(Opcode::kRcSendFirst));
  EXPECT_EQ(seen[0][2].bth.opcode, xrc(Opcode::kRcSendLast));
  ASSERT_FALSE(seen[1].empty());
  for (const auto& headers : seen[1]) EXPECT_EQ(headers.bth.opcode, xrc(Opcode::kRcAcknowledge));
}

TEST_F(Xrc, KnowsAllOperations) {
  connect();
  receives[1].post(1, {});
  const Buffer& remote = *memory[1];
  ASSERT_TRUE(harness->post(0, request(WrOpcode::kRdmaWrite, kSecondSrq, 9000, &remote)));
  ASSERT_TRUE(
      harness->post(0, request(WrOpcode::kRdmaWriteWithImmediate, kSecondSrq, 9000, &remote)));
  harness->settle();
  EXPECT_TRUE(same(1, 9000));
  ASSERT_EQ(done[1].all.size(), 1u);
  EXPECT_EQ(done[1].all[0].opcode, base::WcOpcode::kReceiveRdmaWithImmediate);
  source->fill(3);
  ASSERT_TRUE(harness->post(0, request(WrOpcode::kRdmaRead, kSecondSrq, 9000, &remote)));
  harness->settle();
  EXPECT_TRUE(same(1, 9000));
  uint64_t before;
  std::memcpy(&before, remote.bytes.get(), sizeof before);
  Request add = request(WrOpcode::kFetchAdd, kSecondSrq, 8, &remote);
  add.wqe.compare_add = 5;
  ASSERT_TRUE(harness->post(0, add));
  harness->settle();
  uint64_t after;
  std::memcpy(&after, remote.bytes.get(), sizeof after);
  EXPECT_EQ(after, before + 5);
  ASSERT_EQ(sent().size(), 4u);
  for (const Completion& completion : sent()) EXPECT_EQ(completion.status, WcStatus::kSuccess);
}

TEST_F(Xrc, KeysBelongToTheDomainOfTheSrq) {
  connect();
  ASSERT_TRUE(harness->post(0, request(WrOpcode::kRdmaWrite, kFirstSrq, 100, memory[1])));
  harness->settle();
  expect_refused(WcStatus::kRemoteAccess);
}

TEST_F(Xrc, ReadsOnTheirWayKeepTheirProtectionDomain) {
  connect();
  ASSERT_TRUE(harness->post(0, request(WrOpcode::kRdmaRead, kSecondSrq, 100'000, memory[1])));
  receives[0].post(1, {memory[0]->sge(0, 100)});
  send(kFirstSrq, 10);  // is received before the READ is answered
  harness->settle();
  ASSERT_EQ(sent().size(), 2u);
  for (const Completion& completion : sent()) EXPECT_EQ(completion.status, WcStatus::kSuccess);
  EXPECT_TRUE(same(1, 10));
}

TEST_F(Xrc, RefusesAnUnknownSrq) {
  connect();
  send(0x333, 10);
  harness->settle();
  expect_refused(WcStatus::kRemoteInvalidRequest);
  EXPECT_EQ(harness->hosts[1].observer.events.at(0), AsyncEvent::kQpRequestError);
}

TEST_F(Xrc, AMessageStaysOnItsSrq) {
  connect();
  for (int i = 0; i < 2; ++i) receives[i].post(1, {memory[i]->sge(0, 100'000)});
  harness->fate = [](Packet& packet) {
    if (packet.headers.bth.opcode == xrc(Opcode::kRcSendLast)) {
      packet.headers.xrceth.srqn = kSecondSrq;
    }
    return 1;
  };
  send(kFirstSrq, 3000);
  harness->settle();
  expect_refused(WcStatus::kRemoteInvalidRequest);
  ASSERT_EQ(done[0].all.size(), 1u);
  EXPECT_EQ(done[0].all[0].status, WcStatus::kRemoteInvalidRequest);
  EXPECT_TRUE(done[1].all.empty());
}

TEST_F(Xrc, AnSrqMayGoInTheMiddleOfAMessage) {
  for (const bool flushed : {false, true}) {
    connect();
    receives[0].post(1, {memory[0]->sge(0, 100'000)});
    send(kFirstSrq, 3000);
    const auto first = harness->pull(0);
    const auto second = harness->pull(0);
    harness->deliver(*first);
    harness->hosts[1].domain.queues.erase(kFirstSrq);
    if (flushed) {
      ASSERT_TRUE(harness->modify(1, QpState::kError).ok());
    } else {
      harness->deliver(*second);
      harness->settle();
      expect_refused(WcStatus::kRemoteInvalidRequest);
    }
    EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kError);
    EXPECT_TRUE(done[0].all.empty());
  }
}

TEST_F(Xrc, WaitsForReceives) {
  connect();
  send(kFirstSrq, 2000);
  harness->settle();
  EXPECT_EQ(harness->sent(1, xrc(Opcode::kRcAcknowledge)), 1u);
  receives[0].post(1, {memory[0]->sge(0, 5000)});
  harness->run();
  ASSERT_EQ(sent().size(), 1u);
  EXPECT_EQ(sent()[0].status, WcStatus::kSuccess);
  EXPECT_TRUE(same(0, 2000));
}

TEST_F(Xrc, SendsAgainWhatIsLost) {
  Options options;
  options.max_send_wr = 256;
  connect(options);
  harness->fate = [this](Packet&) { return harness->random.chance(50) ? 0 : 1; };
  for (int i = 0; i < 100; ++i) {
    receives[i % 2].post(i, {memory[i % 2]->sge(0, 5000)});
    send(i % 2 == 0 ? kFirstSrq : kSecondSrq, 4096);
  }
  harness->run();
  ASSERT_EQ(sent().size(), 100u);
  for (const Completion& completion : sent()) EXPECT_EQ(completion.status, WcStatus::kSuccess);
  EXPECT_EQ(done[0].all.size(), 50u);
  EXPECT_EQ(done[1].all.size(), 50u);
  EXPECT_GT(harness->hosts[0].qp->counters().packets_retransmitted, 0u);
}

TEST_F(Xrc, EachEndHasOneSide) {
  connect();
  EXPECT_FALSE(harness->post(1, request(WrOpcode::kSend, kFirstSrq, 10)));
  // A request to the initiator, an answer to the target, and RC's opcodes are nobody's.
  send(kFirstSrq, 10);
  Packet packet = *harness->pull(0);
  packet.from = 1;
  packet.headers.bth.psn = base::Psn(harness->options.psn[1]);
  harness->deliver(packet);
  EXPECT_EQ(harness->hosts[0].qp->counters().dropped_received, 1u);
  packet.from = 0;
  packet.headers.bth.opcode = xrc(Opcode::kRcAcknowledge);
  harness->deliver(packet);
  packet.headers.bth.opcode = Opcode::kRcSendOnly;
  harness->deliver(packet);
  EXPECT_EQ(harness->hosts[1].qp->counters().dropped_received, 2u);
  EXPECT_FALSE(harness->pull(1).has_value());
}

TEST_F(Xrc, OnlyATargetLeavesATombstone) {
  connect();
  receives[0].post(1, {memory[0]->sge(0, 5000)});
  send(kFirstSrq, 10);
  const Packet packet = *harness->pull(0);
  harness->deliver(packet);
  EXPECT_FALSE(harness->hosts[0].qp->tombstone().has_value());
  const auto rest = harness->hosts[1].qp->tombstone();
  ASSERT_TRUE(rest.has_value());
  wire::TxPacket answer;
  ASSERT_TRUE(answer_repetition(*rest, packet.headers, harness->hosts[0].path.source, answer));
  EXPECT_EQ(static_cast<Opcode>(answer.header[0]), xrc(Opcode::kRcAcknowledge));
  wire::Headers other = packet.headers;
  other.bth.opcode = Opcode::kRcSendOnly;
  EXPECT_FALSE(answer_repetition(*rest, other, harness->hosts[0].path.source, answer));
}

TEST(XrcStates, EachEndNeedsItsOwnHalfAndMayNameTheOther) {
  constexpr uint32_t kRtr =
      base::kQpAddressVector | base::kQpPathMtu | base::kQpDestQpn | base::kQpRqPsn;
  constexpr uint32_t kAnswers = base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer;
  constexpr uint32_t kAsks = base::kQpRetryCount | base::kQpRnrRetry | base::kQpMaxRdAtomic;
  constexpr uint32_t kRts = base::kQpTimeout | base::kQpSqPsn;
  const auto allowed = [](QpType type, QpState from, QpState to, uint32_t mask) {
    return transition_allowed(type, from, to, mask);
  };
  const auto init = QpState::kInit;
  const auto rtr = QpState::kReadyToReceive;
  const auto rts = QpState::kReadyToSend;
  EXPECT_TRUE(allowed(QpType::kXrcSend, init, rtr, kRtr));
  EXPECT_TRUE(allowed(QpType::kXrcSend, init, rtr, kRtr | kAnswers));
  EXPECT_TRUE(allowed(QpType::kXrcSend, rtr, rts, kRts | kAsks));
  EXPECT_FALSE(allowed(QpType::kXrcSend, rtr, rts, kRts));
  EXPECT_TRUE(allowed(QpType::kXrcReceive, init, rtr, kRtr | kAnswers));
  EXPECT_FALSE(allowed(QpType::kXrcReceive, init, rtr, kRtr));
  EXPECT_TRUE(allowed(QpType::kXrcReceive, rtr, rts, kRts));
  EXPECT_TRUE(allowed(QpType::kXrcReceive, rtr, rts, kRts | kAsks));
  EXPECT_FALSE(allowed(QpType::kXrcReceive, rtr, rts, base::kQpSqPsn));
  EXPECT_TRUE(allowed(QpType::kXrcReceive, rts, rts, base::kQpMinRnrTimer));
  EXPECT_FALSE(allowed(QpType::kXrcSend, rts, rts, base::kQpMinRnrTimer));
}

}  // namespace
}  // namespace flexins::transport::test
