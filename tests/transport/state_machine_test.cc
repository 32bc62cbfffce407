#include "transport/state_machine.h"

#include <cerrno>

#include <gtest/gtest.h>

#include "harness.h"

namespace flexins::transport::test {
namespace {

using base::QpState;
using base::QpType;

constexpr QpState kStates[] = {QpState::kReset,
                               QpState::kInit,
                               QpState::kReadyToReceive,
                               QpState::kReadyToSend,
                               QpState::kSendQueueDrained,
                               QpState::kSendQueueError,
                               QpState::kError};

constexpr uint32_t kInitMask = base::kQpPkeyIndex | base::kQpPort | base::kQpAccessFlags;
constexpr uint32_t kRtrMask = base::kQpAddressVector | base::kQpPathMtu | base::kQpDestQpn |
                              base::kQpRqPsn | base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer;
constexpr uint32_t kRtsMask = base::kQpTimeout | base::kQpRetryCount | base::kQpRnrRetry |
                              base::kQpSqPsn | base::kQpMaxRdAtomic;
constexpr uint32_t kAlternate = base::kQpAlternatePath | base::kQpPathMigState;

struct Expected {
  QpState from, to;
  uint32_t required, optional;
};
// What ibv_modify_qp(3) and the specification's table 91 say of RC, written down a second time.
constexpr Expected kReliable[] = {
    {QpState::kReset, QpState::kReset, 0, 0},
    {QpState::kReset, QpState::kInit, kInitMask, 0},
    {QpState::kInit, QpState::kReset, 0, 0},
    {QpState::kInit, QpState::kError, 0, 0},
    {QpState::kInit, QpState::kInit, 0, kInitMask},
    {QpState::kInit, QpState::kReadyToReceive, kRtrMask,
     base::kQpAlternatePath | base::kQpAccessFlags | base::kQpPkeyIndex},
    {QpState::kReadyToReceive, QpState::kReset, 0, 0},
    {QpState::kReadyToReceive, QpState::kError, 0, 0},
    {QpState::kReadyToReceive, QpState::kReadyToSend, kRtsMask,
     base::kQpCurrentState | kAlternate | base::kQpAccessFlags | base::kQpMinRnrTimer},
    {QpState::kReadyToSend, QpState::kReset, 0, 0},
    {QpState::kReadyToSend, QpState::kError, 0, 0},
    {QpState::kReadyToSend, QpState::kReadyToSend, 0,
     base::kQpCurrentState | kAlternate | base::kQpAccessFlags | base::kQpMinRnrTimer},
    {QpState::kReadyToSend, QpState::kSendQueueDrained, 0, base::kQpEnableSqdNotify},
    {QpState::kSendQueueDrained, QpState::kReset, 0, 0},
    {QpState::kSendQueueDrained, QpState::kError, 0, 0},
    {QpState::kSendQueueDrained, QpState::kReadyToSend, 0,
     base::kQpCurrentState | kAlternate | base::kQpAccessFlags | base::kQpMinRnrTimer},
    {QpState::kSendQueueDrained, QpState::kSendQueueDrained, 0,
     base::kQpPort | base::kQpAddressVector | base::kQpTimeout | base::kQpRetryCount |
         base::kQpRnrRetry | base::kQpMaxRdAtomic | base::kQpMaxDestRdAtomic | kAlternate |
         base::kQpAccessFlags | base::kQpPkeyIndex | base::kQpMinRnrTimer},
    {QpState::kSendQueueError, QpState::kReset, 0, 0},
    {QpState::kSendQueueError, QpState::kError, 0, 0},
    {QpState::kError, QpState::kReset, 0, 0},
    {QpState::kError, QpState::kError, 0, 0},
};

const Expected* expected(QpState from, QpState to) {
  for (const Expected& e : kReliable) {
    if (e.from == from && e.to == to) return &e;
  }
  return nullptr;
}

TEST(StateMachine, EveryTransitionWithEveryMask) {
  uint32_t bits[22];
  uint32_t count = 0;
  for (uint32_t bit = 1; bit <= base::kQpDestQpn; bit <<= 1) bits[count++] = bit;
  bits[count++] = base::kQpRateLimit;
  for (QpState from : kStates) {
    for (QpState to : kStates) {
      const Expected* e = expected(from, to);
      const auto allowed = [&](uint32_t mask) {
        return transition_allowed(QpType::kReliable, from, to, mask | base::kQpState);
      };
      SCOPED_TRACE(testing::Message() << int(from) << " to " << int(to));
      if (e == nullptr) {
        for (uint32_t i = 0; i < count; ++i) EXPECT_FALSE(allowed(bits[i]));
        EXPECT_FALSE(allowed(0));
        EXPECT_FALSE(allowed(kInitMask));
        EXPECT_FALSE(allowed(kRtrMask));
        EXPECT_FALSE(allowed(kRtsMask));
        continue;
      }
      EXPECT_TRUE(allowed(e->required));
      EXPECT_TRUE(allowed(e->required | e->optional));
      for (uint32_t i = 0; i < count; ++i) {
        if (bits[i] == base::kQpState) continue;
        const bool required = (e->required & bits[i]) != 0;
        const bool optional = (e->optional & bits[i]) != 0;
        EXPECT_EQ(allowed(e->required & ~bits[i]), !required) << "without " << bits[i];
        EXPECT_EQ(allowed(e->required | bits[i]), required || optional) << "with " << bits[i];
      }
    }
  }
}

TEST(StateMachine, ValuesAreChecked) {
  struct Case {
    uint32_t mask;
    void (*set)(base::QpAttributes&);
  };
  const Case cases[] = {
      {base::kQpPathMtu, [](base::QpAttributes& a) { a.path_mtu = 0; }},
      {base::kQpPathMtu, [](base::QpAttributes& a) { a.path_mtu = 6; }},
      {base::kQpTimeout, [](base::QpAttributes& a) { a.timeout = 32; }},
      {base::kQpMinRnrTimer, [](base::QpAttributes& a) { a.min_rnr_timer = 32; }},
      {base::kQpRetryCount, [](base::QpAttributes& a) { a.retry_count = 8; }},
      {base::kQpRnrRetry, [](base::QpAttributes& a) { a.rnr_retry = 8; }},
      {base::kQpDestQpn, [](base::QpAttributes& a) { a.destination_qpn = 1 << 24; }},
      {base::kQpMaxRdAtomic, [](base::QpAttributes& a) { a.max_rd_atomic = 129; }},
      {base::kQpMaxDestRdAtomic, [](base::QpAttributes& a) { a.max_dest_rd_atomic = 129; }},
      {base::kQpPort, [](base::QpAttributes& a) { a.port_number = 2; }},
      {base::kQpState, [](base::QpAttributes& a) { a.state = static_cast<QpState>(7); }},
  };
  for (const Case& c : cases) {
    base::QpAttributes a;
    c.set(a);
    const auto result = check_values(a, c.mask);
    ASSERT_FALSE(result.ok()) << c.mask;
    EXPECT_EQ(result.error().code, EINVAL);
    EXPECT_TRUE(check_values(a, 0).ok()) << "only what the mask names";
  }
}

TEST(StateMachine, RefusedModifyChangesNothing) {
  Harness harness;
  harness.connect();
  const base::QpAttributes before = harness.hosts[0].qp->query();
  base::QpAttributes a = harness.attributes(0);
  a.min_rnr_timer = 3;
  a.timeout = 1;
  EXPECT_FALSE(harness.hosts[0].qp->modify(a, base::kQpMinRnrTimer | base::kQpTimeout, 0).ok());
  EXPECT_EQ(harness.hosts[0].qp->query().min_rnr_timer, before.min_rnr_timer);
  a.current_state = QpState::kSendQueueDrained;
  EXPECT_FALSE(
      harness.hosts[0].qp->modify(a, base::kQpMinRnrTimer | base::kQpCurrentState, 0).ok());
  a.current_state = QpState::kReadyToSend;
  EXPECT_TRUE(harness.hosts[0].qp->modify(a, base::kQpMinRnrTimer | base::kQpCurrentState, 0).ok());
  EXPECT_EQ(harness.hosts[0].qp->query().min_rnr_timer, 3);
  EXPECT_EQ(harness.hosts[0].qp->state(), QpState::kReadyToSend);
}

TEST(StateMachine, CreateRefusesWhatIsBeyondTheLimits) {
  Harness harness;
  QpConfig good = harness.hosts[0].qp->config();
  EXPECT_TRUE(Qp::create(good).ok());
  const auto refused = [&](auto change) {
    QpConfig config = good;
    change(config);
    const auto result = Qp::create(config);
    return !result.ok() && result.error().code == EINVAL;
  };
  EXPECT_TRUE(refused([](QpConfig& c) { c.max_send_wr = base::Limits::kMaxSendWr + 1; }));
  EXPECT_TRUE(refused([](QpConfig& c) { c.max_send_sge = base::Limits::kMaxSge + 1; }));
  EXPECT_TRUE(refused([](QpConfig& c) { c.max_inline_bytes = 513; }));
  EXPECT_TRUE(refused([](QpConfig& c) { c.regions = nullptr; }));
  EXPECT_TRUE(refused([](QpConfig& c) { c.type = static_cast<QpType>(5); }));
}

}  // namespace
}  // namespace flexins::transport::test
