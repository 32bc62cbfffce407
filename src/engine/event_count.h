#pragma once

#include <algorithm>

#include "engine/engine.h"

namespace flexins::engine {

/// Async events of one object, as one application hears of them.
class AsyncEvents {
 public:
  void send(EventSink& sink, uint64_t cookie, base::AsyncEvent event) noexcept {
    if (sink.async_event(cookie, event)) ++delivered_;
  }
  /// The object goes. Takes back what the application has not read, and returns how many it has.
  [[nodiscard]] uint32_t settle(EventSink& sink, uint64_t cookie) const noexcept {
    if (delivered_ == 0) return 0;
    // Whoever writes into a pipe of its own makes only its own count wrong.
    return delivered_ - std::min(delivered_, sink.withdraw_async_events(cookie));
  }

 private:
  uint32_t delivered_ = 0;
};

}  // namespace flexins::engine
