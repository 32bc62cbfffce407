#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace flexins::base {
namespace {

TEST(Result, HoldsAValue) {
  Result<int> result = 42;
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(static_cast<bool>(result));
  EXPECT_EQ(*result, 42);
  result.value() = 43;
  EXPECT_EQ(result.value(), 43);
}

TEST(Result, HoldsAnError) {
  const Result<int> result = Error{EACCES, "no permission"};
  EXPECT_FALSE(result.ok());
  EXPECT_FALSE(static_cast<bool>(result));
  EXPECT_EQ(result.error().code, EACCES);
  EXPECT_EQ(result.error().message, "no permission");
}

TEST(Result, MovesWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 5);
}

TEST(Result, ReachesMembers) {
  Result<std::string> result = std::string("four");
  result->append("teen");
  const Result<std::string>& view = result;
  EXPECT_EQ(view->size(), 8U);
  EXPECT_EQ(*view, "fourteen");
  EXPECT_EQ(*std::move(result), "fourteen");
}

TEST(Result, OfNothing) {
  const Result<void> good;
  EXPECT_TRUE(good.ok());
  const Result<void> bad = Error{EINVAL, "why"};
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, EINVAL);
}

TEST(ResultDeathTest, ReadingWhatIsNotThereStops) {
  const Result<int> bad = Error{EINVAL, "why"};
  EXPECT_DEATH(static_cast<void>(bad.value()), "check failed: ok\\(\\)");
  const Result<int> good = 1;
  EXPECT_DEATH(static_cast<void>(good.error()), "check failed: !ok\\(\\)");
}

}  // namespace
}  // namespace flexins::base
