#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

/// Loads and stores of network byte order at any alignment.

namespace flexins::base {

template <typename T>
[[nodiscard]] constexpr T swap_to_big(T value) {
  static_assert(std::is_unsigned_v<T>);
  if constexpr (std::endian::native == std::endian::big || sizeof(T) == 1) {
    return value;
  } else if constexpr (sizeof(T) == 2) {
    return __builtin_bswap16(value);
  } else if constexpr (sizeof(T) == 4) {
    return __builtin_bswap32(value);
  } else {
    return __builtin_bswap64(value);
  }
}

template <typename T>
[[nodiscard]] inline T load_be(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return swap_to_big(value);
}

template <typename T>
inline void store_be(void* to, T value) {
  value = swap_to_big(value);
  std::memcpy(to, &value, sizeof value);
}

}  // namespace flexins::base
