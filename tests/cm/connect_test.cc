#include <array>

#include "cm/durations.h"
#include "pair.h"

namespace flexins::cm {
namespace {

using wire::CmMra;
using wire::CmRej;
using wire::CmRejectReason;
using wire::CmRep;
using wire::CmReq;
using wire::CmRtu;

class Connect : public Pair {};

TEST_F(Connect, BothEndsAgree) {
  listen(b);
  const Connected ids = establish();
  expect_state(a, ids.active, State::kEstablished);
  expect_state(b, ids.passive, State::kEstablished);
  const Terms& active = *a.manager.terms(ids.active);
  const Terms& passive = *b.manager.terms(ids.passive);
  EXPECT_EQ(active.remote_qpn, 0x22U);
  EXPECT_EQ(passive.remote_qpn, 0x11U);
  EXPECT_EQ(active.send_psn, passive.receive_psn);
  EXPECT_EQ(active.receive_psn, passive.send_psn);
  EXPECT_EQ(active.initiator_depth, passive.responder_resources);
  EXPECT_EQ(active.responder_resources, passive.initiator_depth);
  EXPECT_EQ(active.rnr_retry_count, 5);
  EXPECT_EQ(passive.retry_count, 7);
  EXPECT_EQ(passive.path_mtu, 3);
  EXPECT_EQ(passive.ack_timeout, kAckTimeout);
  EXPECT_EQ(*b.manager.path(ids.passive), b.to(a));
  EXPECT_EQ(a.manager.next_deadline(), base::kNever);
  EXPECT_EQ(b.manager.next_deadline(), base::kNever);
  EXPECT_EQ(count<CmReq>() + count<CmRep>() + count<CmRtu>(), sent.size());
}

TEST_F(Connect, NumbersAreNotTheSameTwice) {
  listen(b);
  const Connected one = establish(1, 2);
  const Connected two = establish(3, 4);
  EXPECT_NE(one.active, two.active);
  EXPECT_NE(a.manager.terms(one.active)->receive_psn, a.manager.terms(two.active)->receive_psn);
}

TEST_F(Connect, PrivateDataBothWays) {
  listen(b);
  ConnectRequest wanted = request(a, b);
  const std::array<uint8_t, 3> hello = {1, 2, 3};
  wanted.private_data = hello;
  const auto id = a.manager.connect(wanted, now);
  ASSERT_TRUE(id.ok());
  run();
  const Event event = expect_event(b, EventKind::kRequest);
  EXPECT_EQ(std::get<CmReq>(event.body).private_data[2], 3);
  AcceptReply answer = reply();
  answer.private_data = hello;
  ASSERT_TRUE(b.manager.accept(event.connection, answer, now).ok());
  run();
  EXPECT_EQ(std::get<CmRep>(expect_event(a, EventKind::kReply).body).private_data[1], 2);
}

TEST_F(Connect, TooMuchPrivateData) {
  const std::array<uint8_t, 225> much{};
  ConnectRequest wanted = request(a, b);
  wanted.private_data = much;
  EXPECT_EQ(a.manager.connect(wanted, now).error().code, E2BIG);
  EXPECT_EQ(a.manager.connections(), 0U);
}

TEST_F(Connect, NobodyListens) {
  const ConnectionId id = connect(a, b);
  run();
  const Event event = expect_event(a, EventKind::kRejected);
  EXPECT_EQ(std::get<CmRej>(event.body).reason, CmRejectReason::kInvalidServiceId);
  EXPECT_EQ(std::get<CmRej>(event.body).local_id, 0U);
  a.manager.release(id, now);
  EXPECT_EQ(a.manager.connections(), 0U);
  EXPECT_EQ(b.manager.connections(), 0U);
}

TEST_F(Connect, LostRequestIsRepeated) {
  listen(b);
  lose<CmReq>(2);
  connect(a, b);
  run();
  expect_none(b);
  advance(2 * base::kSecond);
  expect_event(b, EventKind::kRequest);
  EXPECT_EQ(count<CmReq>(), 3U);
}

TEST_F(Connect, NobodyAnswers) {
  lose<CmReq>(100);
  const ConnectionId id = connect(a, b);
  run();
  advance(3 * base::kSecond);
  expect_none(a);
  EXPECT_EQ(count<CmReq>(), 4U);
  advance(base::kSecond);
  expect_event(a, EventKind::kUnreachable);
  EXPECT_EQ(count<CmRej>(), 1U) << "so that a peer that only cannot answer knows";
  EXPECT_EQ(a.manager.next_deadline(), base::kNever);
  a.manager.release(id, now);
  EXPECT_EQ(a.manager.connections(), 0U);
}

TEST_F(Connect, GivingUpReachesTheApplicationThatIsStillThinking) {
  listen(b);
  fate = [](const wire::CmBody& body) {
    return std::holds_alternative<CmMra>(body) ? kLose : kDeliver;
  };
  connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  advance(4 * base::kSecond);
  expect_event(a, EventKind::kUnreachable);
  const Event event = expect_event(b, EventKind::kRejected);
  EXPECT_EQ(std::get<CmRej>(event.body).reason, CmRejectReason::kTimeout);
  EXPECT_EQ(b.manager.accept(passive, reply(), now).error().code, EINVAL);
}

TEST_F(Connect, SlowApplicationAsksForPatience) {
  listen(b);
  const ConnectionId active = connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  advance(base::kSecond);
  EXPECT_EQ(count<CmReq>(), 2U);
  EXPECT_EQ(count<CmMra>(), 1U);
  expect_none(b);
  advance(30 * base::kSecond);
  EXPECT_EQ(count<CmReq>(), 2U) << "it was told to wait";
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  run();
  expect_event(a, EventKind::kReply);
  expect_state(a, active, State::kRepReceived);
}

TEST_F(Connect, PatienceEnds) {
  listen(b);
  connect(a, b);
  run();
  expect_event(b, EventKind::kRequest);
  advance(base::kSecond);
  fate = [](const wire::CmBody&) { return kLose; };
  advance(duration_ns(24) + base::kSecond);
  EXPECT_EQ(count<CmReq>(), 3U);
  advance(2 * base::kSecond);
  expect_event(a, EventKind::kUnreachable);
}

TEST_F(Connect, LostReplyIsRepeated) {
  listen(b);
  lose<CmRep>(1);
  connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  run();
  expect_none(a);
  advance(base::kSecond);
  expect_event(a, EventKind::kReply);
  expect_none(a);
  expect_none(b);
}

TEST_F(Connect, ReplyTwiceWhileTheApplicationThinks) {
  listen(b);
  const ConnectionId active = connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  run();
  expect_event(a, EventKind::kReply);
  advance(base::kSecond);
  EXPECT_EQ(count<CmRep>(), 2U);
  EXPECT_EQ(count<CmMra>(), 1U);
  expect_none(a);
  advance(20 * base::kSecond);
  EXPECT_EQ(count<CmRep>(), 2U);
  ASSERT_TRUE(a.manager.ready(active, now).ok());
  run();
  expect_event(b, EventKind::kEstablished);
}

TEST_F(Connect, LostReadyIsRepeatedWhenAskedFor) {
  listen(b);
  lose<CmRtu>(1);
  const ConnectionId active = connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  run();
  expect_event(a, EventKind::kReply);
  ASSERT_TRUE(a.manager.ready(active, now).ok());
  run();
  expect_none(b);
  advance(base::kSecond);
  expect_event(b, EventKind::kEstablished);
  expect_state(a, active, State::kEstablished);
  EXPECT_EQ(count<CmRtu>(), 2U);
}

TEST_F(Connect, DataSaysWhatTheReadyWouldHaveSaid) {
  listen(b);
  lose<CmRtu>(100);
  const ConnectionId active = connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  run();
  expect_event(a, EventKind::kReply);
  ASSERT_TRUE(a.manager.ready(active, now).ok());
  run();
  ASSERT_TRUE(b.manager.communication_established(passive, now).ok());
  expect_event(b, EventKind::kEstablished);
  EXPECT_EQ(b.manager.next_deadline(), base::kNever);
  EXPECT_TRUE(b.manager.communication_established(passive, now).ok());
  expect_none(b);
}

TEST_F(Connect, NobodyIsReady) {
  listen(b);
  connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  fate = [](const wire::CmBody&) { return kLose; };
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  advance(4 * base::kSecond);
  expect_event(b, EventKind::kUnreachable);
}

TEST_F(Connect, RequestTwiceIsOneConnection) {
  listen(b);
  hold_all<CmReq>();
  connect(a, b);
  run();
  held.push_back(held.front());
  deliver_held();
  expect_event(b, EventKind::kRequest);
  expect_none(b);
  EXPECT_EQ(b.manager.connections(), 1U);
  EXPECT_EQ(b.manager.counters().duplicates_received, 1U);
}

TEST_F(Connect, RequestTwiceAfterTheReplyRepeatsIt) {
  listen(b);
  const ConnectionId active = connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  lose<CmRep>(1);
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  run();
  advance(base::kSecond);  // the REQ and the REP are repeated at one moment
  EXPECT_GE(count<CmRep>(), 2U);
  expect_event(a, EventKind::kReply);
  expect_state(a, active, State::kRepReceived);
}

TEST_F(Connect, RejectedWithReasonAndData) {
  listen(b);
  const ConnectionId active = connect(a, b);
  run();
  const Event event = expect_event(b, EventKind::kRequest);
  const std::array<uint8_t, 4> why = {9, 8, 7, 6};
  ASSERT_TRUE(b.manager.reject(event.connection, why, now).ok());
  run();
  const Event rejected = expect_event(a, EventKind::kRejected);
  const auto& rej = std::get<CmRej>(rejected.body);
  EXPECT_EQ(rej.reason, CmRejectReason::kConsumer);
  EXPECT_EQ(rej.answered, wire::CmAnswered::kReq);
  EXPECT_EQ(rej.private_data[3], 6);
  expect_state(a, active, State::kIdle);
  a.manager.release(active, now);
  b.manager.release(event.connection, now);
  advance(5 * base::kSecond);
  EXPECT_EQ(a.manager.connections() + b.manager.connections(), 0U);
}

TEST_F(Connect, LostRejectIsRepeatedWhenAskedAgain) {
  listen(b);
  connect(a, b);
  run();
  const Event event = expect_event(b, EventKind::kRequest);
  lose<CmRej>(1);
  ASSERT_TRUE(b.manager.reject(event.connection, {}, now).ok());
  b.manager.release(event.connection, now);
  run();
  expect_none(a);
  advance(base::kSecond);
  expect_event(a, EventKind::kRejected);
  expect_none(b);
}

TEST_F(Connect, ActiveRejectsTheReply) {
  listen(b);
  const ConnectionId active = connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  run();
  expect_event(a, EventKind::kReply);
  ASSERT_TRUE(a.manager.reject(active, {}, now).ok());
  run();
  EXPECT_EQ(std::get<CmRej>(expect_event(b, EventKind::kRejected).body).answered,
            wire::CmAnswered::kRep);
  expect_state(b, passive, State::kIdle);
}

TEST_F(Connect, ReplyToOneWhoIsGone) {
  listen(b);
  const ConnectionId active = connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  lose<CmRej>(1);  // the one that says that a gave up
  a.manager.release(active, now);
  run();
  EXPECT_EQ(a.manager.connections(), 0U);
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  run();
  const Event event = expect_event(b, EventKind::kRejected);
  EXPECT_EQ(std::get<CmRej>(event.body).reason, CmRejectReason::kInvalidCommunicationId);
}

TEST_F(Connect, BothAtOnceAreTwoConnections) {
  listen(a);
  listen(b);
  hold_all<CmReq>();
  const ConnectionId one = connect(a, b, 1);
  const ConnectionId two = connect(b, a, 2);
  run();
  fate = [](const wire::CmBody&) { return kDeliver; };
  deliver_held();
  const ConnectionId one_passive = expect_event(b, EventKind::kRequest).connection;
  const ConnectionId two_passive = expect_event(a, EventKind::kRequest).connection;
  ASSERT_TRUE(b.manager.accept(one_passive, reply(3), now).ok());
  ASSERT_TRUE(a.manager.accept(two_passive, reply(4), now).ok());
  run();
  expect_event(a, EventKind::kReply);
  expect_event(b, EventKind::kReply);
  ASSERT_TRUE(a.manager.ready(one, now).ok());
  ASSERT_TRUE(b.manager.ready(two, now).ok());
  run();
  expect_event(a, EventKind::kEstablished);
  expect_event(b, EventKind::kEstablished);
  EXPECT_EQ(a.manager.terms(one)->remote_qpn, 3U);
  EXPECT_EQ(b.manager.terms(two)->remote_qpn, 4U);
}

TEST_F(Connect, BothEndsInOneManager) {
  ASSERT_TRUE(a.manager.listen(kService, a.self, 1).ok());
  const ConnectionId active = connect(a, a);
  run();
  const ConnectionId passive = expect_event(a, EventKind::kRequest).connection;
  ASSERT_TRUE(a.manager.accept(passive, reply(), now).ok());
  run();
  expect_event(a, EventKind::kReply);
  ASSERT_TRUE(a.manager.ready(active, now).ok());
  run();
  expect_event(a, EventKind::kEstablished);
  ASSERT_TRUE(a.manager.disconnect(active, now).ok());
  run();
  EXPECT_EQ(expect_event(a, EventKind::kDisconnectRequest).connection, passive);
}

}  // namespace
}  // namespace flexins::cm
