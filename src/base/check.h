#pragma once

/// Assertions that stay on in release. They check our own logic only: input from the wire, an
/// application or an operator is validated and answered, never asserted.

namespace flexins::base {

/// Prints `file:line: check failed: expression` to stderr and aborts.
[[noreturn]] void check_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace flexins::base

#define FLEXINS_CHECK(expression)                     \
  (__builtin_expect(static_cast<bool>(expression), 1) \
       ? static_cast<void>(0)                         \
       : ::flexins::base::check_failed(#expression, FLEXINS_FILE_NAME, __LINE__))

#ifdef __FILE_NAME__
#define FLEXINS_FILE_NAME __FILE_NAME__
#else
#define FLEXINS_FILE_NAME __FILE__
#endif
