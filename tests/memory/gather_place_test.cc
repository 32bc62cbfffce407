#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <numeric>

#include "base/fault_guard.h"
#include "fake_window.h"
#include "memory/region.h"

namespace flexins::memory {
namespace {

constexpr uint64_t kNamed = 0x9000;    // as work requests name it
constexpr uint64_t kBase = 0x40'0000;  // where it lies in the application
constexpr size_t kLength = 256;

class GatherPlaceTest : public testing::Test {
 protected:
  GatherPlaceTest() {
    auto owned = std::make_unique<FakeWindow>(kBase, kLength);
    window_ = owned.get();
    region_.address = kNamed;
    region_.length = kLength;
    region_.window_base = kBase;
    region_.window = std::move(owned);
    for (size_t i = 0; i < kLength; ++i) window_->bytes[i] = static_cast<std::byte>(i);
  }

  int gather_all(uint64_t offset, uint32_t length) {
    staging_ = staging_space_;
    staged_bytes_ = 0;
    size_t used = 0;
    const AccessResult result =
        gather(region_, kNamed + offset, length, pieces_, used, staging_, staged_bytes_);
    return result == AccessResult::kDone ? static_cast<int>(used) : -1;
  }
  std::vector<std::byte> gathered(int count) const {
    std::vector<std::byte> all;
    for (int i = 0; i < count; ++i) {
      const auto* from = static_cast<const std::byte*>(pieces_[i].iov_base);
      all.insert(all.end(), from, from + pieces_[i].iov_len);
    }
    return all;
  }
  std::vector<std::byte> original(uint64_t offset, size_t length) const {
    return {window_->bytes.begin() + offset, window_->bytes.begin() + offset + length};
  }

  Region region_;
  FakeWindow* window_;
  std::array<iovec, 3> pieces_{};
  std::array<std::byte, 64> staging_space_{};
  std::span<std::byte> staging_;
  uint64_t staged_bytes_ = 0;
};

TEST_F(GatherPlaceTest, MappedBytesAreReferencedNotCopied) {
  ASSERT_EQ(gather_all(10, 100), 1);
  EXPECT_EQ(pieces_[0].iov_base, window_->bytes.data() + 10);
  EXPECT_EQ(pieces_[0].iov_len, 100u);
  EXPECT_EQ(staged_bytes_, 0u);
  EXPECT_EQ(gather_all(10, 0), 0);
}

TEST_F(GatherPlaceTest, NeighbouringExtentsBecomeOnePiece) {
  window_->extent_cut = 16;
  EXPECT_EQ(gather_all(0, 256), 1);
  EXPECT_EQ(pieces_[0].iov_len, 256u);
}

TEST_F(GatherPlaceTest, UnmappedBytesAreStaged) {
  window_->unmapped_from = 20;
  window_->unmapped_to = 50;
  const int count = gather_all(10, 100);
  ASSERT_EQ(count, 3);
  EXPECT_EQ(gathered(count), original(10, 100));
  EXPECT_EQ(staged_bytes_, 30u);
  EXPECT_EQ(staging_.size(), 34u);
  EXPECT_EQ(staging_.data(), staging_space_.data() + 30);
}

TEST_F(GatherPlaceTest, GatherFailsWhenPiecesStagingOrMemoryEnd) {
  window_->unmapped_from = 20;
  window_->unmapped_to = 50;
  std::span<iovec> two(pieces_.data(), 2);
  staging_ = staging_space_;
  size_t used = 0;
  EXPECT_EQ(gather(region_, kNamed + 10, 100, two, used, staging_, staged_bytes_),
            AccessResult::kFailed);
  window_->unmapped_to = 85;
  EXPECT_EQ(gather_all(10, 100), -1) << "65 bytes do not fit 64 of staging";
  window_->unmapped_to = 50;
  window_->dead = true;
  EXPECT_EQ(gather_all(10, 100), -1);
  EXPECT_EQ(gather_all(60, 50), 1) << "mapped bytes need no read";
}

TEST_F(GatherPlaceTest, PlacesPiecesOfEveryShape) {
  std::vector<std::byte> source(kLength);
  std::iota(reinterpret_cast<uint8_t*>(source.data()),
            reinterpret_cast<uint8_t*>(source.data()) + kLength, uint8_t{100});
  window_->unmapped_from = 64;
  window_->unmapped_to = 128;
  for (size_t cut = 1; cut < 40; ++cut) {
    std::vector<iovec> pieces;
    for (size_t at = 0; at < kLength; at += cut) {
      pieces.push_back({source.data() + at, std::min(cut, kLength - at)});
    }
    for (size_t offset = 0; offset < 30; offset += 7) {
      std::fill(window_->bytes.begin(), window_->bytes.end(), std::byte{0});
      const size_t length = kLength - 40;
      ASSERT_EQ(place(region_, kNamed + 3, pieces, offset, length), AccessResult::kDone);
      ASSERT_EQ(std::memcmp(window_->bytes.data() + 3, source.data() + offset, length), 0) << cut;
      ASSERT_EQ(window_->bytes[2], std::byte{0});
      ASSERT_EQ(window_->bytes[3 + length], std::byte{0});
    }
  }
}

TEST_F(GatherPlaceTest, WordsSharedByTwoPiecesAreStoredWhole) {
  window_->unmapped_from = 0;
  window_->unmapped_to = kLength;
  std::array<std::byte, 32> source{};
  const std::array<iovec, 2> pieces{iovec{source.data(), 12}, iovec{source.data() + 12, 20}};
  ASSERT_EQ(place(region_, kNamed, pieces, 0, 32), AccessResult::kDone);
  const std::vector<std::pair<uint64_t, size_t>> expected{
      {kBase, 8}, {kBase + 8, 8}, {kBase + 16, 16}};
  EXPECT_EQ(window_->writes, expected);
}

TEST_F(GatherPlaceTest, PlaceFailsWhenPiecesOrMemoryEnd) {
  std::array<std::byte, 8> source{};
  const iovec piece{source.data(), source.size()};
  EXPECT_EQ(place(region_, kNamed, {&piece, 1}, 0, 9), AccessResult::kFailed);
  EXPECT_EQ(place(region_, kNamed, {&piece, 1}, 8, 1), AccessResult::kFailed);
  EXPECT_EQ(place(region_, kNamed, {}, 0, 1), AccessResult::kFailed);
  EXPECT_EQ(place(region_, kNamed, {}, 0, 0), AccessResult::kDone);
  window_->unmapped_from = 0;
  window_->unmapped_to = kLength;
  window_->dead = true;
  EXPECT_EQ(place(region_, kNamed, {&piece, 1}, 0, 8), AccessResult::kFailed);
}

/// A mapping whose object was truncated.
class VanishedWindow final : public Window {
 public:
  VanishedWindow() {
    const int fd = ::memfd_create("vanished", MFD_CLOEXEC);
    EXPECT_EQ(::ftruncate(fd, 4096), 0);
    data_ =
        static_cast<std::byte*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    EXPECT_EQ(::ftruncate(fd, 0), 0);
    ::close(fd);
  }
  ~VanishedWindow() override { ::munmap(data_, 4096); }
  Extent resolve(uint64_t address, uint64_t length) noexcept override {
    return {data_ + (address - kBase), length};
  }
  AccessResult read(uint64_t, std::span<std::byte>) noexcept override {
    return AccessResult::kFailed;
  }
  AccessResult write(uint64_t, std::span<const std::byte>) noexcept override {
    return AccessResult::kFailed;
  }
  WindowKind kind() const noexcept override { return WindowKind::kShared; }
  bool needs_guard() const noexcept override { return true; }

 private:
  std::byte* data_;
};

TEST_F(GatherPlaceTest, PlacingIntoVanishedMemoryFailsAndLives) {
  base::install_fault_guard();
  region_.window = std::make_unique<VanishedWindow>();
  std::array<std::byte, 100> source{};
  const iovec piece{source.data(), source.size()};
  const uint64_t before = base::guarded_fault_count();
  EXPECT_EQ(place(region_, kNamed, {&piece, 1}, 0, 100), AccessResult::kFailed);
  EXPECT_EQ(base::guarded_fault_count(), before + 1);
}

}  // namespace
}  // namespace flexins::memory
