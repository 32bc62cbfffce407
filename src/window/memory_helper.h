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

namespace flexins::window {

/// Longest that a caller waits for a helper that is blocked in the kernel all the time. Above what
/// a lock of the program's address space is held for, also where its holder is short of CPU time;
/// once in a program's life, as the descriptor is given up then.
inline constexpr base::TimeNs kStallLimit = 200 * base::kMillisecond;

/// A thread that reads and writes one memory descriptor on behalf of workers, because the access
/// may block for as long as the program behind it likes (a page served by its own file system).
/// The thread owns all that it touches, so it can be left behind while blocked.
/// Several threads may call; one call is served at a time.
class MemoryHelper {
 public:
  /// Errors: EAGAIN when no thread can be started.
  static base::Result<std::unique_ptr<MemoryHelper>> start(base::UniqueFd fd);
  ~MemoryHelper();
  MemoryHelper(const MemoryHelper&) = delete;
  MemoryHelper& operator=(const MemoryHelper&) = delete;

  [[nodiscard]] bool read(uint64_t address, std::span<std::byte> out) noexcept;
  [[nodiscard]] bool write(uint64_t address, std::span<const std::byte> in) noexcept;

 private:
  static constexpr size_t kBounceBytes = 64 * 1024;
  enum State : uint32_t { kIdle, kRequested, kDone, kAsleep };
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

  bool acquire() noexcept;
  void release() noexcept { busy_.store(false, std::memory_order_release); }
  bool request(Operation operation, uint64_t address, size_t length) noexcept;
  void submit(Operation operation) noexcept;
  bool await_done() noexcept;
  [[nodiscard]] bool helper_is_runnable() const noexcept;

  std::shared_ptr<Shared> shared_;
  std::thread thread_;
  std::atomic<bool> busy_{false};
};

}  // namespace flexins::window
