#pragma once

#include <cerrno>
#include <cstring>
#include <optional>
#include <span>

#include "daemon/cm_service.h"

/// Bytes of commands and responses, for the files of cm_*.cc.

namespace flexins::daemon {

/// The front of `input` as a `Command`, if it is long enough.
template <typename Command>
[[nodiscard]] std::optional<Command> decode_cm(std::span<const std::byte> input) {
  if (input.size() < sizeof(Command)) return std::nullopt;
  Command command;
  std::memcpy(static_cast<void*>(&command), input.data(), sizeof command);
  return command;
}

template <typename Response>
[[nodiscard]] CmAnswer answer_with(const Response& response) {
  CmAnswer answer;
  answer.output.resize(sizeof response);
  std::memcpy(answer.output.data(), &response, sizeof response);
  return answer;
}

[[nodiscard]] inline base::Error cm_invalid(const char* why) { return base::Error{EINVAL, why}; }
[[nodiscard]] inline base::Error cm_too_short() { return cm_invalid("shorter than its command"); }

template <typename Object>
[[nodiscard]] std::span<const std::byte> bytes_of(const Object& object) {
  return std::as_bytes(std::span(&object, 1));
}

}  // namespace flexins::daemon
