#include <array>

#include "pair.h"

namespace flexins::cm {
namespace {

using wire::CmSidrRep;
using wire::CmSidrReq;
using wire::CmSidrStatus;

class Service : public Pair {
 protected:
  ConnectionId resolve() {
    const std::array<uint8_t, 2> data = {5, 6};
    auto id = a.manager.resolve_service(a.to(b), kService, data, now);
    EXPECT_TRUE(id.ok());
    run();
    return *id;
  }
  ConnectionId taken() {
    const Event event = expect_event(b, EventKind::kServiceRequest);
    b.manager.request_taken(event.listener);
    EXPECT_EQ(std::get<CmSidrReq>(event.body).private_data[1], 6);
    return event.connection;
  }
};

TEST_F(Service, IsResolved) {
  listen(b);
  const ConnectionId id = resolve();
  const ConnectionId passive = taken();
  ASSERT_TRUE(
      b.manager.answer_service(passive, CmSidrStatus::kSuccess, 0x77, 0x1234567, {}, now).ok());
  run();
  const Event event = expect_event(a, EventKind::kServiceReply);
  EXPECT_EQ(std::get<CmSidrRep>(event.body).qpn, 0x77U);
  EXPECT_EQ(std::get<CmSidrRep>(event.body).qkey, 0x1234567U);
  a.manager.release(id, now);
  b.manager.release(passive, now);
  advance(10 * base::kSecond);
  expect_none(b);
  EXPECT_EQ(a.manager.connections() + b.manager.connections(), 0U);
}

TEST_F(Service, IsNotThere) {
  resolve();
  const Event event = expect_event(a, EventKind::kServiceReply);
  EXPECT_EQ(std::get<CmSidrRep>(event.body).status, CmSidrStatus::kUnsupported);
}

TEST_F(Service, IsRefused) {
  listen(b);
  resolve();
  b.manager.release(taken(), now);
  run();
  const Event event = expect_event(a, EventKind::kServiceReply);
  EXPECT_EQ(std::get<CmSidrRep>(event.body).status, CmSidrStatus::kReject);
}

TEST_F(Service, LostRequestAndLostReply) {
  listen(b);
  lose<CmSidrReq>(1);
  resolve();
  expect_none(b);
  advance(base::kSecond);
  const ConnectionId passive = taken();
  lose<CmSidrRep>(1);
  ASSERT_TRUE(b.manager.answer_service(passive, CmSidrStatus::kSuccess, 1, 1, {}, now).ok());
  b.manager.release(passive, now);
  run();
  expect_none(a);
  advance(base::kSecond);
  expect_event(a, EventKind::kServiceReply);
  expect_none(b);
}

TEST_F(Service, NobodyAnswers) {
  fate = [](const wire::CmBody&) { return kLose; };
  const ConnectionId id = resolve();
  advance(4 * base::kSecond);
  expect_event(a, EventKind::kUnreachable);
  EXPECT_EQ(count<wire::CmRej>(), 0U);
  a.manager.release(id, now);
  EXPECT_EQ(a.manager.connections(), 0U);
}

TEST_F(Service, AskedTwiceIsOneRequest) {
  listen(b);
  hold_all<CmSidrReq>();
  resolve();
  held.push_back(held.front());
  deliver_held();
  taken();
  expect_none(b);
}

TEST_F(Service, NoConnectionCallsForIt) {
  listen(b);
  const ConnectionId id = resolve();
  EXPECT_EQ(a.manager.disconnect(id, now).error().code, EINVAL);
  EXPECT_EQ(a.manager.ready(id, now).error().code, EINVAL);
  EXPECT_EQ(b.manager.accept(taken(), reply(), now).error().code, EINVAL);
}

}  // namespace
}  // namespace flexins::cm
