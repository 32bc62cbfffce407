#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>

#include "base/result.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "memory/window.h"

namespace flexins::window {

/// How long one program may hold a worker at once by memory that blocks: then its accesses are
/// answered with kLater as soon as they block, until time has passed (a hundred times as much).
inline constexpr base::TimeNs kStallBudget = 200 * base::kMillisecond;
/// One that stays blocked for so long is given up, and the descriptor with it. Above what a lock of
/// the program's address space is held for, also where its holder is short of CPU time.
inline constexpr base::TimeNs kStallLimit = 5 * base::kSecond;

/// A thread that reads and writes one memory descriptor on behalf of workers, because the access
/// may block for as long as the program behind it likes (a page served by its own file system).
/// The thread owns all that it touches, so it can be left alone while blocked: what is asked of it
/// meanwhile comes back as kLater. A write that was left is still done, before any later access.
/// Several threads may call; one call is served at a time.
class MemoryHelper {
 public:
  using AccessResult = memory::AccessResult;

  /// Errors: EAGAIN when no thread can be started.
  static base::Result<std::unique_ptr<MemoryHelper>> start(base::UniqueFd fd);
  ~MemoryHelper();
  MemoryHelper(const MemoryHelper&) = delete;
  MemoryHelper& operator=(const MemoryHelper&) = delete;

  [[nodiscard]] AccessResult read(uint64_t address, std::span<std::byte> out) noexcept;
  [[nodiscard]] AccessResult write(uint64_t address, std::span<const std::byte> in) noexcept;
  /// Waits, within the budget, until nothing that was left alone is under way any more.
  void settle() noexcept;

 private:
  static constexpr size_t kBounceBytes = 64 * 1024;
  enum State : uint32_t { kIdle, kRequested, kServing, kDone, kAsleep };
  enum class Operation : uint8_t { kRead, kWrite, kStop };

  /// Shared with the thread; freed by whoever is last.
  struct Shared {
    std::atomic<uint32_t> state{kIdle};
    std::atomic<int> thread_id{0};
    std::atomic<bool> poisoned{false};
    Operation operation = Operation::kStop;
    bool succeeded = false;
    uint64_t address = 0;
    size_t length = 0;
    base::TimeNs retry_budget = 0;  ///< see try_again()
    base::UniqueFd fd;
    alignas(64) std::array<std::byte, kBounceBytes> bounce;
  };

  explicit MemoryHelper(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  static void run(std::shared_ptr<Shared> shared) noexcept;
  static bool await_request(Shared& shared) noexcept;
  static bool serve(Shared& shared) noexcept;
  static bool transfer(Shared& shared, size_t from, size_t to) noexcept;
  static bool try_again(Shared& shared, base::TimeNs& started) noexcept;

  AccessResult acquire() noexcept;
  void release() noexcept { busy_.store(false, std::memory_order_release); }
  AccessResult request(Operation operation, uint64_t address, size_t length) noexcept;
  void submit(Operation operation) noexcept;
  AccessResult await_done() noexcept;
  AccessResult leave(base::TimeNs instant) noexcept;
  AccessResult look_after_stall() noexcept;
  void poison() noexcept { shared_->poisoned.store(true, std::memory_order_release); }
  [[nodiscard]] bool helper_is_runnable() const noexcept;

  std::shared_ptr<Shared> shared_;
  std::thread thread_;
  std::atomic<bool> busy_{false};
  // Of whoever holds busy_.
  base::TimeNs stalled_since_ = base::kNever;  ///< an access was left alone then
  base::TimeNs stall_budget_ = kStallBudget;
  base::TimeNs budget_as_of_ = 0;
};

}  // namespace flexins::window
