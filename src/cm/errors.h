#pragma once

#include <cerrno>

#include "base/result.h"

/// The errors that most calls of the manager share.

namespace flexins::cm {

[[nodiscard]] inline base::Error no_such_connection() {
  return base::Error{ENOENT, "no such connection"};
}
[[nodiscard]] inline base::Error wrong_state() {
  return base::Error{EINVAL, "the connection is in another state"};
}
[[nodiscard]] inline base::Error too_long() {
  return base::Error{E2BIG, "more private data than the message carries"};
}

}  // namespace flexins::cm
