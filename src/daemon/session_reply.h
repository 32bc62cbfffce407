#pragma once

#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "daemon/session.h"

/// Bytes to messages and back, for the files of session_*.cc.

namespace flexins::daemon {

/// Body plus descriptors. The header is filled in by Session::handle; `status` is kept.
template <typename Body, typename... Fds>
[[nodiscard]] Reply make_reply(const Body& body, Fds... fds) {
  static_assert(std::is_trivially_copyable_v<Body>);
  Reply reply;
  reply.bytes.resize(sizeof body);
  std::memcpy(reply.bytes.data(), &body, sizeof body);
  (reply.fds.push_back(std::move(fds)), ...);
  return reply;
}

[[nodiscard]] inline Reply done() { return make_reply(protocol::EmptyReply{}); }
[[nodiscard]] inline Reply destroyed(const engine::EventsRead& read) {
  return make_reply(protocol::DestroyReply{{}, read.completion, read.async});
}

/// The message as a `Request`, if it has exactly its size.
template <typename Request>
[[nodiscard]] std::optional<Request> decode(std::span<const std::byte> message) {
  if (message.size() != sizeof(Request)) return std::nullopt;
  Request request;
  std::memcpy(static_cast<void*>(&request), message.data(), sizeof request);
  return request;
}

/// Access flags that a provider may pass without our knowing them (IBV_ACCESS_OPTIONAL_RANGE).
inline constexpr uint32_t kAccessOptional = 0x3ff0'0000;

[[nodiscard]] inline base::Error invalid(std::string why) {
  return base::Error{EINVAL, std::move(why)};
}

}  // namespace flexins::daemon
