#include "base/ids.h"

#include <gtest/gtest.h>

#include <type_traits>

namespace flexins::base {
namespace {

TEST(Psn, KeepsTwentyFourBits) {
  EXPECT_EQ(Psn(0x1234'5678).value(), 0x34'5678U);
  EXPECT_EQ(Psn(Psn::kMask + 1), Psn(0));
}

TEST(Psn, WrapsBothWays) {
  EXPECT_EQ(Psn(Psn::kMask) + 1, Psn(0));
  EXPECT_EQ(Psn(0) - 1, Psn(Psn::kMask));
  EXPECT_EQ(Psn(0xff'fff0) + 0x20, Psn(0x10));
  EXPECT_EQ(Psn(0x10) - 0x20, Psn(0xff'fff0));
  Psn psn(Psn::kMask);
  EXPECT_EQ(++psn, Psn(0));
  EXPECT_EQ(psn, Psn(0));
}

TEST(Psn, DistanceIsSignedAndModular) {
  EXPECT_EQ(distance(Psn(5), Psn(5)), 0);
  EXPECT_EQ(distance(Psn(7), Psn(5)), 2);
  EXPECT_EQ(distance(Psn(5), Psn(7)), -2);
  EXPECT_EQ(distance(Psn(1), Psn(Psn::kMask)), 2);
  EXPECT_EQ(distance(Psn(Psn::kMask), Psn(1)), -2);
}

TEST(Psn, DistanceAtHalfTheRing) {
  constexpr int32_t kHalf = 1 << 23;
  for (const uint32_t base : {0U, 1U, 0x12'3456U, 0x80'0000U, Psn::kMask}) {
    EXPECT_EQ(distance(Psn(base) + (kHalf - 1), Psn(base)), kHalf - 1);
    EXPECT_EQ(distance(Psn(base) + kHalf, Psn(base)), -kHalf);
    EXPECT_EQ(distance(Psn(base) + (kHalf + 1), Psn(base)), -kHalf + 1);
  }
}

TEST(Psn, DistanceUndoesAddition) {
  for (uint32_t base = 0; base <= Psn::kMask; base += 0x1'2345) {
    for (uint32_t step = 0; step < 1U << 23; step += 0x1'ffff) {
      ASSERT_EQ(distance(Psn(base) + step, Psn(base)), static_cast<int32_t>(step));
      ASSERT_EQ(distance(Psn(base) - step, Psn(base)), -static_cast<int32_t>(step));
    }
  }
}

TEST(StrongId, ComparesByValueAndKeepsTagsApart) {
  EXPECT_EQ(Qpn{7}, Qpn{7});
  EXPECT_LT(Qpn{7}, Qpn{8});
  EXPECT_FALSE((std::is_convertible_v<Qpn, CqId>));
  EXPECT_FALSE((std::is_constructible_v<Qpn, CqId>));
}

}  // namespace
}  // namespace flexins::base
