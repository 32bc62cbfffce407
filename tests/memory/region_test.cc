#include "memory/region.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <deque>

namespace flexins::memory {
namespace {

using base::AccessFlags;
using base::MemoryKey;
using base::PdId;

/// Gives the numbers it was told to, then a count.
class ScriptedRandom final : public base::RandomSource {
 public:
  uint64_t next() noexcept override {
    if (script.empty()) return ++count_;
    const uint64_t value = script.front();
    script.pop_front();
    return value;
  }
  std::deque<uint64_t> script;

 private:
  uint64_t count_ = 1000;
};

Region region_of(uint64_t address, uint64_t length, uint32_t access) {
  Region region;
  region.pd = PdId{7};
  region.address = address;
  region.length = length;
  region.window_base = address;
  region.access = access;
  return region;
}

class RegionTableTest : public testing::Test {
 protected:
  ScriptedRandom random_;
  RegionTable table_{random_};
};

TEST_F(RegionTableTest, KeysAreNeitherZeroNorInUseNorJustFreed) {
  random_.script = {0, 5, 5, 0x1'0000'0000, 6, 5, 8};
  const auto first = table_.insert(region_of(0, 10, 0));
  const auto second = table_.insert(region_of(0, 10, 0));
  EXPECT_EQ(first.value().value, 5u);
  EXPECT_EQ(second.value().value, 6u);
  EXPECT_TRUE(table_.erase(first.value()));
  EXPECT_FALSE(table_.erase(first.value()));
  EXPECT_EQ(table_.insert(region_of(0, 10, 0)).value().value, 8u) << "5 was freed a moment ago";
  EXPECT_EQ(table_.size(), 2u);
}

TEST_F(RegionTableTest, RefusesRangesThatWrap) {
  EXPECT_EQ(table_.insert(region_of(UINT64_MAX - 9, 11, 0)).error().code, EINVAL);
  EXPECT_TRUE(table_.insert(region_of(UINT64_MAX - 10, 10, 0)).ok());
  Region shifted = region_of(0, 11, 0);
  shifted.window_base = UINT64_MAX - 9;
  EXPECT_EQ(table_.insert(std::move(shifted)).error().code, EINVAL);
}

TEST_F(RegionTableTest, ChecksKeyPdAccessAndBounds) {
  const uint32_t access = base::kAccessLocalWrite | base::kAccessRemoteWrite;
  const MemoryKey key = table_.insert(region_of(1000, 100, access)).value();
  const PdId pd{7};
  const auto error = [&](MemoryKey k, PdId p, uint32_t a, uint64_t at, uint64_t length) {
    const auto checked = table_.check(k, p, a, at, length);
    EXPECT_EQ(checked.region != nullptr, checked.error == AccessError::kNone);
    return checked.error;
  };
  EXPECT_EQ(error(key, pd, base::kAccessRemoteWrite, 1000, 100), AccessError::kNone);
  EXPECT_EQ(error(key, pd, 0, 1099, 1), AccessError::kNone);
  EXPECT_EQ(error(key, pd, 0, 1100, 0), AccessError::kNone);
  EXPECT_EQ(error(MemoryKey{key.value ^ 1}, pd, 0, 1000, 1), AccessError::kNoSuchKey);
  EXPECT_EQ(error(MemoryKey{0}, pd, 0, 1000, 1), AccessError::kNoSuchKey);
  EXPECT_EQ(error(key, PdId{8}, 0, 1000, 1), AccessError::kWrongPd);
  EXPECT_EQ(error(key, pd, base::kAccessRemoteRead, 1000, 1), AccessError::kNotPermitted);
  EXPECT_EQ(error(key, pd, access | base::kAccessRemoteRead, 1000, 1), AccessError::kNotPermitted);
  EXPECT_EQ(error(key, pd, 0, 999, 1), AccessError::kOutOfBounds);
  EXPECT_EQ(error(key, pd, 0, 1000, 101), AccessError::kOutOfBounds);
  EXPECT_EQ(error(key, pd, 0, 1100, 1), AccessError::kOutOfBounds);
  EXPECT_EQ(error(key, pd, 0, 1001, UINT64_MAX), AccessError::kOutOfBounds);
  EXPECT_EQ(error(key, pd, 0, UINT64_MAX, 2), AccessError::kOutOfBounds);
}

TEST_F(RegionTableTest, EmptyRegionGrantsNothing) {
  const MemoryKey key = table_.insert(region_of(1000, 0, 0)).value();
  EXPECT_EQ(table_.check(key, PdId{7}, 0, 1000, 1).error, AccessError::kOutOfBounds);
}

TEST_F(RegionTableTest, FindsTheRegionThatWasInserted) {
  Region region = region_of(0x1000, 64, 0);
  region.window_base = 0x7000;
  const MemoryKey key = table_.insert(std::move(region)).value();
  ASSERT_NE(table_.find(key), nullptr);
  EXPECT_EQ(table_.find(key)->key, key);
  EXPECT_EQ(table_.find(key)->window_address(0x1010), 0x7010u);
  EXPECT_EQ(table_.find(MemoryKey{12345}), nullptr);
}

}  // namespace
}  // namespace flexins::memory
