#include "cm/durations.h"
#include "pair.h"

namespace flexins::cm {
namespace {

using wire::CmDrep;
using wire::CmDreq;
using wire::CmRej;
using wire::CmRtu;

constexpr base::TimeNs kTimewait = duration_ns(16);

class Disconnect : public Pair {
 protected:
  Disconnect() { listen(b); }
};

TEST_F(Disconnect, OneAsksTheOtherAgrees) {
  const Connected ids = establish();
  ASSERT_TRUE(a.manager.disconnect(ids.active, now).ok());
  run();
  expect_event(b, EventKind::kDisconnectRequest);
  expect_none(a);
  ASSERT_TRUE(b.manager.disconnect(ids.passive, now).ok());
  run();
  EXPECT_FALSE(expect_event(a, EventKind::kDisconnected).timed_out);
  expect_state(a, ids.active, State::kTimewait);
  expect_state(b, ids.passive, State::kTimewait);
  advance(kTimewait);
  expect_event(a, EventKind::kTimewaitExit);
  expect_event(b, EventKind::kTimewaitExit);
  a.manager.release(ids.active, now);
  b.manager.release(ids.passive, now);
  EXPECT_EQ(a.manager.connections() + b.manager.connections(), 0U);
  EXPECT_EQ(a.manager.next_deadline(), base::kNever);
}

TEST_F(Disconnect, RequestsCross) {
  const Connected ids = establish();
  hold_all<CmDreq>();
  ASSERT_TRUE(a.manager.disconnect(ids.active, now).ok());
  ASSERT_TRUE(b.manager.disconnect(ids.passive, now).ok());
  run();
  deliver_held();
  expect_event(a, EventKind::kDisconnected);
  expect_event(b, EventKind::kDisconnected);
  expect_none(a);
  expect_none(b);
  expect_state(a, ids.active, State::kTimewait);
  expect_state(b, ids.passive, State::kTimewait);
}

TEST_F(Disconnect, LostRequestIsRepeated) {
  const Connected ids = establish();
  lose<CmDreq>(1);
  ASSERT_TRUE(a.manager.disconnect(ids.active, now).ok());
  run();
  advance(base::kSecond);
  expect_event(b, EventKind::kDisconnectRequest);
  advance(base::kSecond);
  expect_none(b);
}

TEST_F(Disconnect, LostAgreementIsRepeated) {
  const Connected ids = establish();
  ASSERT_TRUE(a.manager.disconnect(ids.active, now).ok());
  run();
  expect_event(b, EventKind::kDisconnectRequest);
  lose<CmDrep>(1);
  ASSERT_TRUE(b.manager.disconnect(ids.passive, now).ok());
  b.manager.release(ids.passive, now);
  run();
  expect_none(a);
  advance(base::kSecond);  // b's timewait is over by then: it answers all the same
  expect_event(a, EventKind::kDisconnected);
}

TEST_F(Disconnect, NobodyAgrees) {
  const Connected ids = establish();
  lose<CmDreq>(100);
  ASSERT_TRUE(a.manager.disconnect(ids.active, now).ok());
  run();
  advance(4 * base::kSecond);
  EXPECT_TRUE(expect_event(a, EventKind::kDisconnected).timed_out);
  advance(kTimewait);
  expect_event(a, EventKind::kTimewaitExit);
}

TEST_F(Disconnect, ReleaseOfAnOpenConnectionEndsIt) {
  const Connected ids = establish();
  a.manager.release(ids.active, now);
  EXPECT_FALSE(a.manager.state(ids.active).has_value());
  run();
  expect_event(b, EventKind::kDisconnectRequest);
  b.manager.release(ids.passive, now);
  run();
  advance(kTimewait);
  expect_none(a);
  expect_none(b);
  EXPECT_EQ(a.manager.connections() + b.manager.connections(), 0U);
}

TEST_F(Disconnect, DeadPeerLeavesNothing) {
  const Connected ids = establish();
  fate = [](const wire::CmBody&) { return kLose; };
  a.manager.release(ids.active, now);
  run();
  advance(10 * base::kSecond);
  EXPECT_EQ(a.manager.connections(), 0U);
  expect_none(a);
}

TEST_F(Disconnect, BeforeTheReadyCame) {
  lose<CmRtu>(100);
  const ConnectionId active = connect(a, b);
  run();
  const ConnectionId passive = expect_event(b, EventKind::kRequest).connection;
  ASSERT_TRUE(b.manager.accept(passive, reply(), now).ok());
  run();
  expect_event(a, EventKind::kReply);
  ASSERT_TRUE(a.manager.ready(active, now).ok());
  ASSERT_TRUE(a.manager.disconnect(active, now).ok());
  run();
  expect_event(b, EventKind::kDisconnectRequest);
  ASSERT_TRUE(b.manager.disconnect(passive, now).ok());
  run();
  expect_event(a, EventKind::kDisconnected);
}

TEST_F(Disconnect, PeerThatKnowsNothingAgrees) {
  const Connected ids = establish();
  Node fresh(2, config());
  ASSERT_TRUE(a.manager.disconnect(ids.active, now).ok());
  OutgoingMad mad;
  ASSERT_TRUE(a.manager.next_mad(mad));
  fresh.manager.on_mad(a.self, fresh.self, mad.bytes, now);
  ASSERT_TRUE(fresh.manager.next_mad(mad));
  a.manager.on_mad(fresh.self, a.self, mad.bytes, now);
  expect_event(a, EventKind::kDisconnected);
}

TEST_F(Disconnect, StaleConnection) {
  const Connected ids = establish(0x11, 0x22);
  // The client dies and comes back with the same QP number.
  Node reborn(1, config());
  TestRandom other(99);
  Manager again(config(), other);
  ASSERT_TRUE(again.connect(request(reborn, b, 0x11), now).ok());
  OutgoingMad mad;
  ASSERT_TRUE(again.next_mad(mad));
  b.manager.on_mad(a.self, b.self, mad.bytes, now);
  ASSERT_TRUE(b.manager.next_mad(mad));
  again.on_mad(b.self, a.self, mad.bytes, now);
  Event event;
  ASSERT_TRUE(again.next_event(event));
  EXPECT_EQ(event.kind, EventKind::kRejected);
  EXPECT_EQ(std::get<CmRej>(event.body).reason, wire::CmRejectReason::kStaleConnection);
  expect_state(b, ids.passive, State::kDreqSent);
  ASSERT_TRUE(b.manager.next_mad(mad));
  again.on_mad(b.self, a.self, mad.bytes, now);
  ASSERT_TRUE(again.next_mad(mad));
  b.manager.on_mad(a.self, b.self, mad.bytes, now);
  expect_event(b, EventKind::kDisconnected);
  advance(kTimewait);
  expect_event(b, EventKind::kTimewaitExit);
  // Now the QP number is free.
  ASSERT_TRUE(again.connect(request(reborn, b, 0x11), now).ok());
  ASSERT_TRUE(again.next_mad(mad));
  b.manager.on_mad(a.self, b.self, mad.bytes, now);
  expect_event(b, EventKind::kRequest);
}

TEST_F(Disconnect, NotConnected) {
  const ConnectionId id = connect(a, b);
  EXPECT_EQ(a.manager.disconnect(id, now).error().code, EINVAL);
  EXPECT_EQ(a.manager.disconnect(ConnectionId{1}, now).error().code, ENOENT);
}

TEST_F(Disconnect, ThousandConnectionsLeaveNothing) {
  for (uint32_t i = 0; i < 1000; ++i) {
    const Connected ids = establish(0x100 + i, 0x1000 + i);
    a.manager.release(ids.active, now);
    run();
    expect_event(b, EventKind::kDisconnectRequest);
    b.manager.release(ids.passive, now);
    run();
    advance(base::kMillisecond);
  }
  advance(kTimewait);
  EXPECT_EQ(a.manager.connections() + b.manager.connections(), 0U);
  EXPECT_EQ(a.manager.next_deadline(), base::kNever);
}

}  // namespace
}  // namespace flexins::cm
