#include "base/random.h"

#include <gtest/gtest.h>

#include <set>

namespace flexins::base {
namespace {

TEST(SystemRandom, DoesNotRepeat) {
  SystemRandom random;
  std::set<uint64_t> seen;
  // Several of its blocks. A repetition among 64-bit numbers would be a one in 10^13 accident.
  for (int i = 0; i < 1000; ++i) seen.insert(random.next());
  EXPECT_EQ(seen.size(), 1000U);
}

TEST(SystemRandom, UsesEveryBit) {
  SystemRandom random;
  uint64_t ever_one = 0;
  uint64_t ever_zero = 0;
  for (int i = 0; i < 200; ++i) {
    const uint64_t value = random.next();
    ever_one |= value;
    ever_zero |= ~value;
  }
  EXPECT_EQ(ever_one, UINT64_MAX);
  EXPECT_EQ(ever_zero, UINT64_MAX);
}

TEST(SystemRandom, TwoSourcesDiffer) {
  SystemRandom a;
  SystemRandom b;
  EXPECT_NE(a.next(), b.next());
}

}  // namespace
}  // namespace flexins::base
