#pragma once

#include <absl/container/flat_hash_map.h>

#include <atomic>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/engine.h"

namespace flexins::daemon {

/// A pipe of records: the read end is the application's, ours never blocks. We can read, too: what
/// the application has not taken is taken back when the object that it names goes.
struct EventPipe {
  base::UniqueFd read;
  base::UniqueFd ours;
  /// Errors: EMFILE, ENFILE, what open(2) says.
  static base::Result<EventPipe> create();
};

/// Carries one context's events to its application. An application that does not read loses
/// events (counted), not the engine its time. All but dropped() belong to the worker thread once
/// the context is open.
class EventPipes final : public engine::EventSink {
 public:
  explicit EventPipes(base::UniqueFd async_events) : async_(std::move(async_events)) {}

  bool completion_event(base::ChannelId channel, uint64_t cq_cookie) noexcept override;
  bool async_event(uint64_t element_cookie, base::AsyncEvent event) noexcept override;
  uint32_t withdraw_completion_events(base::ChannelId channel,
                                      uint64_t cq_cookie) noexcept override;
  uint32_t withdraw_async_events(uint64_t element_cookie) noexcept override;

  void add_channel(base::ChannelId channel, base::UniqueFd ours);
  /// The application sees the end of its channel when the result is closed.
  base::UniqueFd remove_channel(base::ChannelId channel);

  /// Events lost because a pipe was full; any thread.
  [[nodiscard]] uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  bool put(int fd, const void* records, size_t bytes) noexcept;
  /// Of records whose first 8 bytes are `cookie`; the others stay, in order.
  uint32_t withdraw(int fd, size_t record_bytes, uint64_t cookie) noexcept;

  base::UniqueFd async_;
  absl::flat_hash_map<base::ChannelId, base::UniqueFd> channels_;
  std::atomic<uint64_t> dropped_{0};
};

}  // namespace flexins::daemon
