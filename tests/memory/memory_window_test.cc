#include <gtest/gtest.h>

#include <cerrno>

#include "memory/region.h"

namespace flexins::memory {
namespace {

using base::MemoryKey;
using base::MwType;
using base::PdId;
using base::Qpn;

class CountingRandom final : public base::RandomSource {
 public:
  uint64_t next() noexcept override { return count_ += 0x10'0001; }

 private:
  uint64_t count_ = 77;
};

constexpr uint32_t kBindable = base::kAccessLocalWrite | base::kAccessMwBind;
constexpr PdId kPd{7};
constexpr Qpn kQp{20};

class MemoryWindows : public testing::Test {
 protected:
  MemoryKey region(uint32_t access, PdId pd = kPd) {
    Region added;
    added.pd = pd;
    added.address = 0x1000;
    added.window_base = 0x5000;
    added.length = 0x1000;
    added.access = access;
    return table_.insert(std::move(added)).value();
  }
  Binding binding(MemoryKey window, MemoryKey of, uint32_t access) {
    Binding wanted;
    wanted.window = window;
    wanted.new_key = MemoryKey{window.value + 1};
    wanted.region = of;
    wanted.address = 0x1100;
    wanted.length = 0x100;
    wanted.access = access;
    wanted.pd = kPd;
    wanted.qpn = kQp;
    return wanted;
  }
  bool grants(MemoryKey key, uint32_t access, uint64_t address, uint64_t length, Qpn qpn = kQp) {
    return table_.check(key, kPd, access, address, length, qpn).region != nullptr;
  }

  CountingRandom random_;
  RegionTable table_{random_};
};

TEST_F(MemoryWindows, GrantNothingBeforeTheyAreBound) {
  const MemoryKey window = table_.allocate_window(kPd, MwType::kType1).value();
  EXPECT_FALSE(grants(window, 0, 0, 0));
  EXPECT_TRUE(table_.free_window(window));
  EXPECT_FALSE(table_.free_window(window));
}

TEST_F(MemoryWindows, GrantWhatTheyAreBoundToAndNoMore) {
  const MemoryKey of = region(kBindable);
  const MemoryKey window = table_.allocate_window(kPd, MwType::kType1).value();
  Binding wanted = binding(window, of, base::kAccessRemoteWrite);
  ASSERT_TRUE(table_.bind(wanted));
  const MemoryKey key = wanted.new_key;
  EXPECT_TRUE(grants(key, base::kAccessRemoteWrite, 0x1100, 0x100));
  EXPECT_TRUE(grants(key, base::kAccessRemoteWrite, 0x1100, 0x100, Qpn{99})) << "of any QP";
  EXPECT_FALSE(grants(key, base::kAccessRemoteWrite, 0x10ff, 1));
  EXPECT_FALSE(grants(key, base::kAccessRemoteWrite, 0x1200, 1));
  EXPECT_FALSE(grants(key, base::kAccessRemoteRead, 0x1100, 1));
  EXPECT_FALSE(grants(window, base::kAccessRemoteWrite, 0x1100, 1)) << "its old key";
  EXPECT_EQ(table_.check(key, kPd, 0, 0x1100, 1).region, nullptr) << "no local access";
  EXPECT_EQ(table_.check(key, PdId{8}, base::kAccessRemoteWrite, 0x1100, 1, kQp).region, nullptr);
  EXPECT_EQ(table_.find(key)->window_address(0x1104), 0x5104u);
  EXPECT_EQ(table_.find(of)->bound_windows, 1u);
}

TEST_F(MemoryWindows, MayBeZeroBased) {
  const MemoryKey window = table_.allocate_window(kPd, MwType::kType2).value();
  Binding wanted =
      binding(window, region(kBindable), base::kAccessRemoteRead | base::kAccessZeroBased);
  ASSERT_TRUE(table_.bind(wanted));
  EXPECT_TRUE(grants(wanted.new_key, base::kAccessRemoteRead, 0, 0x100));
  EXPECT_FALSE(grants(wanted.new_key, base::kAccessRemoteRead, 0x1100, 1));
  EXPECT_EQ(table_.find(wanted.new_key)->window_address(4), 0x5104u);
}

TEST_F(MemoryWindows, Type1IsReboundAndUnbound) {
  const MemoryKey of = region(kBindable);
  const MemoryKey window = table_.allocate_window(kPd, MwType::kType1).value();
  Binding wanted = binding(window, of, base::kAccessRemoteWrite);
  ASSERT_TRUE(table_.bind(wanted));
  const MemoryKey first = wanted.new_key;
  wanted.new_key = MemoryKey{window.value + 2};
  ASSERT_TRUE(table_.bind(wanted));
  EXPECT_FALSE(grants(first, base::kAccessRemoteWrite, 0x1100, 1));
  EXPECT_TRUE(grants(wanted.new_key, base::kAccessRemoteWrite, 0x1100, 1));
  EXPECT_EQ(table_.find(of)->bound_windows, 1u);
  EXPECT_FALSE(table_.invalidate(wanted.new_key, kPd, kQp)) << "only type 2 is invalidated";
  wanted.length = 0;
  ASSERT_TRUE(table_.bind(wanted));
  EXPECT_FALSE(grants(wanted.new_key, base::kAccessRemoteWrite, 0x1100, 1));
  EXPECT_EQ(table_.find(of)->bound_windows, 0u);
}

TEST_F(MemoryWindows, Type2BelongsToTheQpThatBoundIt) {
  const MemoryKey of = region(kBindable);
  const MemoryKey window = table_.allocate_window(kPd, MwType::kType2).value();
  Binding wanted = binding(window, of, base::kAccessRemoteWrite);
  ASSERT_TRUE(table_.bind(wanted));
  EXPECT_TRUE(grants(wanted.new_key, base::kAccessRemoteWrite, 0x1100, 1));
  EXPECT_FALSE(grants(wanted.new_key, base::kAccessRemoteWrite, 0x1100, 1, Qpn{21}));
  EXPECT_FALSE(table_.bind(wanted)) << "it has to be invalidated first";
  EXPECT_FALSE(table_.invalidate(wanted.new_key, kPd, Qpn{21}));
  EXPECT_FALSE(table_.invalidate(window, kPd, kQp)) << "its old key";
  EXPECT_TRUE(table_.invalidate(wanted.new_key, kPd, kQp));
  EXPECT_FALSE(table_.invalidate(wanted.new_key, kPd, kQp));
  EXPECT_FALSE(grants(wanted.new_key, base::kAccessRemoteWrite, 0x1100, 1));
  EXPECT_TRUE(table_.bind(wanted));
}

TEST_F(MemoryWindows, RefuseWrongBinds) {
  const MemoryKey window = table_.allocate_window(kPd, MwType::kType2).value();
  const MemoryKey good = region(kBindable);
  const auto refused = [&](auto&& change) {
    Binding wanted = binding(window, good, base::kAccessRemoteWrite);
    change(wanted);
    return !table_.bind(wanted);
  };
  EXPECT_TRUE(refused([](Binding& b) { b.length = 0; })) << "type 2";
  EXPECT_TRUE(refused([](Binding& b) { b.length = 0xf01; })) << "out of bounds";
  EXPECT_TRUE(refused([](Binding& b) { b.length = UINT64_MAX; }));
  EXPECT_TRUE(refused([](Binding& b) { b.pd = PdId{8}; }));
  EXPECT_TRUE(refused([](Binding& b) { b.window.value += 0x100; })) << "no such window";
  EXPECT_TRUE(refused([](Binding& b) { b.new_key.value += 0x100; })) << "another's key";
  EXPECT_TRUE(refused([](Binding& b) { b.access = base::kAccessMwBind; }));
  EXPECT_TRUE(refused([&](Binding& b) { b.region = region(base::kAccessLocalWrite); }));
  EXPECT_TRUE(refused([&](Binding& b) { b.region = region(base::kAccessMwBind); }))
      << "writing through it needs local write";
  EXPECT_TRUE(refused([&](Binding& b) { b.region = region(kBindable, PdId{8}); }));
  const MemoryKey other = table_.allocate_window(kPd, MwType::kType2).value();
  EXPECT_TRUE(refused([&](Binding& b) { b.region = other; })) << "a window on a window";
  EXPECT_FALSE(refused([](Binding&) {}));
}

TEST_F(MemoryWindows, FreedOnesGrantNothing) {
  const MemoryKey of = region(kBindable);
  const MemoryKey window = table_.allocate_window(kPd, MwType::kType2).value();
  Binding wanted = binding(window, of, base::kAccessRemoteWrite);
  ASSERT_TRUE(table_.bind(wanted));
  EXPECT_TRUE(table_.free_window(wanted.new_key));
  EXPECT_FALSE(grants(wanted.new_key, base::kAccessRemoteWrite, 0x1100, 1));
  EXPECT_EQ(table_.find(of)->bound_windows, 0u);
}

}  // namespace
}  // namespace flexins::memory
