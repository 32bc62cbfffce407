#pragma once

#include <errno.h>

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "base/result.h"

/// Above us is C: exceptions end here, and an enumeration may be any number.

namespace flexins::provider {

/// Runs `body`, which returns a pointer or an errno value as an Error; null with errno set if it
/// fails in any way.
template <typename Body>
auto null_on_error(Body&& body) noexcept
    -> std::remove_cvref_t<decltype(std::forward<Body>(body)().value())> {
  int error = ENOMEM;
  try {
    auto result = std::forward<Body>(body)();
    if (result.ok()) return result.value();
    error = result.error().code;
  } catch (...) {
    error = ENOMEM;
  }
  errno = error;
  return nullptr;
}

/// The number that a program gave for `value`, which need not be one of the enumeration.
template <typename Enum>
[[nodiscard]] uint32_t number_of(const Enum& value) noexcept {
  uint32_t number = 0;
  static_assert(std::is_enum_v<Enum> && sizeof number == sizeof value);
  std::memcpy(&number, &value, sizeof number);
  return number;
}

/// Runs `body`, which returns 0 or an errno value; ENOMEM if it throws.
template <typename Body>
int errno_on_error(Body&& body) noexcept {
  try {
    return std::forward<Body>(body)();
  } catch (...) {
    return ENOMEM;
  }
}

}  // namespace flexins::provider
