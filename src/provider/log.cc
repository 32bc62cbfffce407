#include "provider/log.h"

#include <cstdio>
#include <cstdlib>

namespace flexins::provider {

void complain(std::string_view message) noexcept {
  std::fprintf(stderr, "flexins: %.*s\n", static_cast<int>(message.size()), message.data());
}

void log_line(std::string_view message) noexcept {
  const char* wanted = std::getenv("FLEXINS_LOG");
  if (wanted != nullptr && wanted[0] != '\0' && wanted[0] != '0') complain(message);
}

}  // namespace flexins::provider
