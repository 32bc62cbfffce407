#pragma once

#include <sched.h>

#include <atomic>

namespace flexins::provider {

/// A lock for the few dozen instructions of a ring operation. Uncontended it is one exchange, and
/// a waiter gives its core away soon: the holder may have been preempted.
class SpinLock {
 public:
  void lock() noexcept {
    for (int spins = 0; locked_.exchange(true, std::memory_order_acquire);) {
      while (locked_.load(std::memory_order_relaxed)) {
        if (++spins > kSpinsBeforeYield) {
          ::sched_yield();
        } else {
          __builtin_ia32_pause();
        }
      }
    }
  }
  void unlock() noexcept { locked_.store(false, std::memory_order_release); }

 private:
  static constexpr int kSpinsBeforeYield = 64;
  std::atomic<bool> locked_{false};
};

/// The lock of a submission ring, or nothing where the program promised (by a thread domain) that
/// one thread at a time uses what posts to the ring.
class RingLock {
 public:
  /// Before the ring is used.
  void belong_to_one_thread() noexcept { needed_ = false; }
  void lock() noexcept {
    if (needed_) lock_.lock();
  }
  void unlock() noexcept {
    if (needed_) lock_.unlock();
  }

 private:
  SpinLock lock_;
  bool needed_ = true;
};

}  // namespace flexins::provider
