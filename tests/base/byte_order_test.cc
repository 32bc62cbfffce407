#include "base/byte_order.h"

#include <gtest/gtest.h>

#include <array>

namespace flexins::base {
namespace {

TEST(ByteOrder, LoadsTheFirstByteAsTheHighest) {
  const std::array<uint8_t, 9> bytes = {0xee, 1, 2, 3, 4, 5, 6, 7, 8};
  const uint8_t* unaligned = bytes.data() + 1;
  EXPECT_EQ(load_be<uint8_t>(unaligned), 1);
  EXPECT_EQ(load_be<uint16_t>(unaligned), 0x0102);
  EXPECT_EQ(load_be<uint32_t>(unaligned), 0x0102'0304U);
  EXPECT_EQ(load_be<uint64_t>(unaligned), 0x0102'0304'0506'0708U);
}

TEST(ByteOrder, StoresOnlyItsOwnBytes) {
  std::array<uint8_t, 11> bytes{};
  store_be<uint64_t>(bytes.data() + 1, 0x0102'0304'0506'0708);
  EXPECT_EQ(bytes, (std::array<uint8_t, 11>{0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0}));
  store_be<uint16_t>(bytes.data() + 3, 0xa1a2);
  EXPECT_EQ(bytes, (std::array<uint8_t, 11>{0, 1, 2, 0xa1, 0xa2, 5, 6, 7, 8, 0, 0}));
  store_be<uint32_t>(bytes.data() + 7, 0xb1b2'b3b4);
  EXPECT_EQ(bytes, (std::array<uint8_t, 11>{0, 1, 2, 0xa1, 0xa2, 5, 6, 0xb1, 0xb2, 0xb3, 0xb4}));
}

}  // namespace
}  // namespace flexins::base
