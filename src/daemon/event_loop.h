#pragma once

#include <absl/container/flat_hash_map.h>

#include <functional>
#include <memory>

#include "base/time.h"
#include "base/unique_fd.h"

namespace flexins::daemon {

/// The control thread's epoll: descriptors with handlers. One thread.
class EventLoop {
 public:
  /// Throws std::system_error.
  EventLoop();

  /// `handler` is called with the epoll events while `fd` has any of `events`. A handler may add
  /// and remove descriptors, its own too. Throws std::system_error.
  void add(int fd, uint32_t events, std::function<void(uint32_t)> handler);
  void change(int fd, uint32_t events);
  /// Before `fd` is closed.
  void remove(int fd);

  /// Waits for events, `timeout` at most, and calls their handlers.
  void run_once(base::TimeNs timeout);

 private:
  base::UniqueFd epoll_;
  absl::flat_hash_map<int, std::shared_ptr<std::function<void(uint32_t)>>> handlers_;
};

}  // namespace flexins::daemon
