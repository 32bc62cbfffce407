#pragma once

#include <errno.h>

#include <type_traits>
#include <utility>

#include "base/result.h"

/// C++ exceptions end here: above us is C.

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
