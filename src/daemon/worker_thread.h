#pragma once

#include <absl/functional/function_ref.h>

#include <atomic>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/unique_fd.h"
#include "daemon/idle_backoff.h"
#include "engine/engine.h"

namespace flexins::daemon {

struct WorkerOptions {
  IdleTimes idle;
  bool spin_for_ever = false;  ///< a core of its own: never yields, never sleeps
  int cpu = -1;                ///< core to stay on; -1: any
  std::vector<int> poll_fds;   ///< of the engine's ports
};

struct WorkerCounters {
  uint64_t steps = 0;
  uint64_t sleeps = 0;
  uint64_t wakeups_avoided = 0;  ///< found work in the last look before sleeping
  base::TimeNs cpu_ns = 0;
};

/// The thread that owns the engine: it alone calls it, step after step, and sleeps when there is
/// nothing to do. One other thread (control) may call the rest.
class WorkerThread {
 public:
  /// Throws std::system_error when no thread or descriptor is to be had. `engine` outlives this.
  WorkerThread(engine::Engine& engine, const WorkerOptions& options);
  ~WorkerThread();
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  /// Runs `body(engine)` on the worker between two steps and returns what it returns. Control
  /// thread only, not from within another call.
  template <typename Body>
  auto call(Body&& body) {
    using Answer = std::invoke_result_t<Body, engine::Engine&>;
    if constexpr (std::is_void_v<Answer>) {
      run([&](engine::Engine& engine) { body(engine); });
    } else {
      std::optional<Answer> answer;
      run([&](engine::Engine& engine) { answer.emplace(body(engine)); });
      return std::move(*answer);
    }
  }

  /// From within call(): `need_wakeup` is 1 while the worker sleeps, and it wakes when `wake_fd`
  /// (an eventfd) is written to. Errors: what epoll_ctl says.
  base::Result<void> add_sleeper(std::atomic<uint32_t>& need_wakeup, int wake_fd);
  /// From within call().
  void remove_sleeper(std::atomic<uint32_t>& need_wakeup, int wake_fd);

  [[nodiscard]] WorkerCounters counters() const;

 private:
  using Command = absl::FunctionRef<void(engine::Engine&)>;

  void run(Command command);
  void loop();
  void take_command();
  void wait_for_work(base::TimeNs now);
  void sleep();
  void block(base::TimeNs now);
  void announce_sleep(bool asleep);
  void watch(int fd, uint32_t events);

  engine::Engine& engine_;
  WorkerOptions options_;
  IdleBackoff idle_;
  base::UniqueFd epoll_;
  base::UniqueFd command_event_;
  std::vector<std::atomic<uint32_t>*> need_wakeups_;
  std::atomic<const Command*> command_{nullptr};
  std::atomic<uint32_t> commands_done_{0};
  std::atomic<uint64_t> steps_{0};
  std::atomic<uint64_t> sleeps_{0};
  std::atomic<uint64_t> wakeups_avoided_{0};
  bool stopping_ = false;
  std::thread thread_;
};

/// CLOCK_MONOTONIC.
[[nodiscard]] base::TimeNs monotonic_now() noexcept;

}  // namespace flexins::daemon
