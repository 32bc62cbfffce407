#include "memory/plain_windows.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace flexins::memory {
namespace {

TEST(NullWindow, ReadsAsZeroesAtEveryAddress) {
  NullWindow window;
  std::array<std::byte, 16> out;
  for (const uint64_t address : {uint64_t{0}, uint64_t{1} << 47, UINT64_MAX - 16}) {
    out.fill(std::byte{7});
    EXPECT_EQ(window.read(address, out), AccessResult::kDone);
    for (const std::byte b : out) EXPECT_EQ(b, std::byte{0});
    EXPECT_EQ(window.write(address, out), AccessResult::kDone);
    EXPECT_EQ(window.resolve(address, 9).data, nullptr);
    EXPECT_EQ(window.resolve(address, 9).length, 9u);
  }
}

TEST(OwnWindow, IsTheBytesAndNoMore) {
  auto bytes = std::make_shared<std::vector<std::byte>>(100, std::byte{1});
  OwnWindow window({bytes->data(), bytes->size()}, bytes);
  EXPECT_EQ(bytes.use_count(), 2);
  EXPECT_EQ(window.resolve(40, 60).data, bytes->data() + 40);
  EXPECT_EQ(window.resolve(41, 60).data, nullptr);
  EXPECT_EQ(window.resolve(UINT64_MAX, 2).data, nullptr);
  std::array<std::byte, 10> some{};
  EXPECT_EQ(window.write(90, some), AccessResult::kDone);
  EXPECT_EQ((*bytes)[99], std::byte{0});
  EXPECT_EQ((*bytes)[89], std::byte{1});
  EXPECT_EQ(window.write(91, some), AccessResult::kFailed);
  EXPECT_EQ(window.read(91, some), AccessResult::kFailed);
  EXPECT_EQ(window.read(90, some), AccessResult::kDone);
  EXPECT_EQ(window.read(100, {}), AccessResult::kDone);
}

}  // namespace
}  // namespace flexins::memory
