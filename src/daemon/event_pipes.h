#pragma once

#include <absl/container/flat_hash_map.h>

#include <atomic>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"

namespace flexins::daemon {

/// A pipe whose write end never blocks; the read end is the application's.
struct EventPipe {
  base::UniqueFd read;
  base::UniqueFd write;
  /// Errors: EMFILE, ENFILE.
  static base::Result<EventPipe> create();
};

/// Carries one context's events to its application. An application that does not read loses
/// events (counted), not the engine its time. All but dropped() belong to the worker thread once
/// the context is open.
class EventPipes final : public engine::EventSink {
 public:
  explicit EventPipes(base::UniqueFd async_events) : async_(std::move(async_events)) {}

  void completion_event(base::ChannelId channel, uint64_t cq_cookie) noexcept override;
  void async_event(uint64_t element_cookie, base::AsyncEvent event) noexcept override;

  void add_channel(base::ChannelId channel, base::UniqueFd write);
  /// The application sees the end of its channel when the result is closed.
  base::UniqueFd remove_channel(base::ChannelId channel);

  /// Events lost because a pipe was full or its reader gone; any thread.
  [[nodiscard]] uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  void put(int fd, const void* record, size_t bytes) noexcept;

  base::UniqueFd async_;
  absl::flat_hash_map<base::ChannelId, base::UniqueFd> channels_;
  std::atomic<uint64_t> dropped_{0};
};

}  // namespace flexins::daemon
