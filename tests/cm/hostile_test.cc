#include "pair.h"

namespace flexins::cm {
namespace {

using wire::CmRej;
using wire::CmRejectReason;
using wire::CmReq;

class Hostile : public Pair {
 protected:
  void to_b(const wire::CmBody& body, uint8_t from = 1) {
    std::array<std::byte, wire::kMadBytes> mad;
    wire::emit_cm({7, body}, mad);
    b.manager.on_mad(address(from), b.self, mad, now);
  }
  CmReq good_request(uint32_t id = 1, uint32_t qpn = 1) {
    CmReq req;
    req.local_id = id;
    req.local_qpn = qpn;
    req.service_id = kService;
    req.path_mtu = 3;
    req.primary.local_gid = a.self.bytes;
    req.primary.remote_gid = b.self.bytes;
    return req;
  }
  void expect_reject(CmRejectReason reason) {
    OutgoingMad mad;
    ASSERT_TRUE(b.manager.next_mad(mad));
    wire::CmMessage message;
    ASSERT_EQ(wire::parse_cm(mad.bytes, message), wire::CmParseError::kNone);
    EXPECT_EQ(std::get<CmRej>(message.body).reason, reason);
    EXPECT_EQ(b.manager.connections(), 0U);
  }
};

TEST_F(Hostile, RequestsThatMakeNoSense) {
  listen(b);
  CmReq req = good_request();
  req.transport = wire::CmTransport::kReliableDatagram;
  to_b(req);
  expect_reject(CmRejectReason::kInvalidTransport);
  req = good_request();
  req.path_mtu = 6;
  to_b(req);
  expect_reject(CmRejectReason::kInvalidMtu);
  req = good_request();
  req.primary.remote_gid = {};
  to_b(req);
  expect_reject(CmRejectReason::kInvalidGid);
  to_b(good_request(), 3);  // from another address than it says
  expect_reject(CmRejectReason::kInvalidGid);
  req = good_request();
  req.local_id = 0;
  to_b(req);
  EXPECT_EQ(b.manager.counters().drop_malformed, 1U);
  expect_none(b);
}

TEST_F(Hostile, AnswersFromElsewhereDoNotCount) {
  listen(b);
  const Connected ids = establish();
  const wire::CmDreq dreq{ids.active.value, ids.passive.value, 0x22, {}};
  to_b(dreq, 9);
  EXPECT_EQ(b.manager.counters().drop_wrong_source, 1U);
  wire::CmDreq wrong = dreq;
  wrong.remote_qpn = 0x23;
  to_b(wrong);
  wrong = dreq;
  wrong.local_id = 12345;
  to_b(wrong);
  wrong.local_id = 0;
  to_b(wrong);
  EXPECT_EQ(b.manager.counters().drop_unknown_id, 3U);
  expect_none(b);
  expect_state(b, ids.passive, State::kEstablished);
  to_b(dreq);
  expect_event(b, EventKind::kDisconnectRequest);
}

TEST_F(Hostile, EveryMessageInEveryStateIsSurvived) {
  const ListenerId listener = listen(b, 1000);
  std::vector<ConnectionId> ids;
  const auto one_in_each_state = [&] {
    for (uint32_t i = 0; i < 5; ++i) {
      to_b(good_request(100 + i, 100 + i));
      Event event;
      while (b.manager.next_event(event)) ids.push_back(event.connection);
      b.manager.request_taken(listener);
    }
    static_cast<void>(b.manager.accept(ids[1], reply(), now));
    static_cast<void>(b.manager.reject(ids[2], {}, now));
    static_cast<void>(b.manager.accept(ids[3], reply(), now));
    static_cast<void>(b.manager.communication_established(ids[3], now));
    static_cast<void>(b.manager.accept(ids[4], reply(), now));
    static_cast<void>(b.manager.disconnect(ids[4], now));
    ids.push_back(*b.manager.connect(request(b, a), now));
    ids.push_back(*b.manager.resolve_service(b.to(a), kService, {}, now));
  };
  one_in_each_state();
  for (const ConnectionId id : ids) {
    for (const uint32_t remote : {0U, 100U, 101U, 102U, 103U, 104U}) {
      to_b(wire::CmMra{remote, id.value, wire::CmAnswered::kReq, 1, {}});
      to_b(wire::CmMra{remote, id.value, wire::CmAnswered::kRep, 1, {}});
      to_b(wire::CmRtu{remote, id.value, {}});
      to_b(wire::CmDrep{remote, id.value, {}});
      to_b(wire::CmSidrRep{id.value, wire::CmSidrStatus::kSuccess, 0, 1, 1, 1, {}, {}});
      to_b(wire::CmSidrReq{remote, 0xffff, kService, {}});
      wire::CmRep rep;
      rep.local_id = remote;
      rep.remote_id = id.value;
      to_b(rep);
      to_b(good_request(remote, remote));
      to_b(wire::CmDreq{remote, id.value, 0x22, {}});
      wire::CmRej rej;
      rej.local_id = remote;
      rej.remote_id = id.value;
      to_b(rej);
      rej.remote_id = 0;
      rej.reason = CmRejectReason::kTimeout;
      to_b(rej);
    }
  }
  for (const ConnectionId id : ids) b.manager.release(id, now);
  Event event;
  while (b.manager.next_event(event)) b.manager.release(event.connection, now);
  lose<CmReq>(1000);
  now += 1;
  fate = [](const wire::CmBody&) { return kLose; };
  advance(600 * base::kSecond);
  EXPECT_EQ(b.manager.connections(), 0U);
}

TEST_F(Hostile, BacklogIsBounded) {
  const ListenerId listener = listen(b, 2);
  for (uint32_t i = 1; i <= 5; ++i) to_b(good_request(i, i));
  EXPECT_EQ(b.manager.connections(), 2U);
  EXPECT_EQ(b.manager.counters().drop_backlog, 3U);
  expect_event(b, EventKind::kRequest);
  b.manager.request_taken(listener);
  to_b(good_request(6, 6));
  EXPECT_EQ(b.manager.connections(), 3U);
}

TEST_F(Hostile, TableIsBounded) {
  Config small = config();
  small.connections_max = 3;
  Node node(2, small);
  ASSERT_TRUE(node.manager.listen(kService, node.self, 100).ok());
  for (uint32_t i = 1; i <= 5; ++i) {
    std::array<std::byte, wire::kMadBytes> mad;
    wire::emit_cm({7, good_request(i, i)}, mad);
    node.manager.on_mad(a.self, node.self, mad, now);
  }
  EXPECT_EQ(node.manager.connections(), 3U);
  EXPECT_EQ(node.manager.counters().drop_full, 2U);
  EXPECT_EQ(node.manager.connect(request(node, a), now).error().code, ENOMEM);
}

TEST_F(Hostile, OtherClassesAndAlternatePaths) {
  std::array<std::byte, wire::kMadBytes> mad;
  wire::emit_cm({7, wire::CmRtu{}}, mad);
  mad[17] = std::byte{0x19};
  b.manager.on_mad(a.self, b.self, mad, now);
  EXPECT_EQ(b.manager.counters().drop_unsupported, 1U);
  b.manager.on_mad(a.self, b.self, std::span(mad).first(100), now);
  EXPECT_EQ(b.manager.counters().drop_malformed, 1U);
}

TEST_F(Hostile, ListenersOneByOne) {
  const auto all = b.manager.listen(kService, {}, 1);
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(b.manager.listen(kService, {}, 1).error().code, EADDRINUSE);
  const auto one = b.manager.listen(kService, b.self, 1);
  ASSERT_TRUE(one.ok());
  to_b(good_request());
  EXPECT_EQ(expect_event(b, EventKind::kRequest).listener, *one) << "the more exact one";
  b.manager.stop_listening(*one);
  to_b(good_request(2, 2));
  EXPECT_EQ(expect_event(b, EventKind::kRequest).listener, *all);
  b.manager.stop_listening(*all);
  to_b(good_request(3, 3));
  expect_none(b);
  EXPECT_EQ(b.manager.listeners(), 0U);
}

}  // namespace
}  // namespace flexins::cm
