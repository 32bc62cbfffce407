#pragma once

#include <atomic>
#include <csetjmp>
#include <cstdint>

/// Memory that an application shares with us can vanish under our hands: it may truncate the file
/// behind a mapping, and the next load or store raises SIGBUS. A guarded call turns that fault into
/// `false`. Sealed memory cannot vanish and needs no guard.

namespace flexins::base {

namespace internal {
struct GuardFrame {
  sigjmp_buf jump;
  GuardFrame* outer = nullptr;
};
// constinit spares each access the call of an initialiser.
extern constinit thread_local GuardFrame* guard_top;
}  // namespace internal

/// Installs the process-wide SIGBUS/SIGSEGV handler. A fault outside a guarded call keeps its
/// default effect. Call once, before any guarded call; later calls change nothing.
void install_fault_guard() noexcept;

/// Faults turned into errors so far, all threads.
[[nodiscard]] uint64_t guarded_fault_count() noexcept;

/// Runs `body`; returns false if it faulted. `body` must be free of objects with destructors that
/// matter and must not lock or allocate: a fault leaves it by longjmp.
template <typename Body>
[[nodiscard]] bool guarded(Body&& body) noexcept {
  internal::GuardFrame frame;
  frame.outer = internal::guard_top;
  // The signal mask is not saved: that would be a system call. The handler restores it.
  if (sigsetjmp(frame.jump, 0) != 0) {
    internal::guard_top = frame.outer;
    return false;
  }
  internal::guard_top = &frame;
  // The handler reads guard_top where the compiler sees no reader: without the fences it may drop
  // the store above as overwritten, or move the body's own stores past the one below.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  body();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  internal::guard_top = frame.outer;
  return true;
}

}  // namespace flexins::base
