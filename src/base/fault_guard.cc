#include "base/fault_guard.h"

#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <mutex>

namespace flexins::base {

namespace internal {
constinit thread_local GuardFrame* guard_top = nullptr;
}  // namespace internal

namespace {

std::atomic<uint64_t> fault_count{0};

void on_fault(int signal_number, siginfo_t*, void* context) {
  internal::GuardFrame* frame = internal::guard_top;
  if (frame == nullptr) {
    // Not ours: returning with the default action in place repeats the fault and ends the process.
    ::signal(signal_number, SIG_DFL);
    return;
  }
  fault_count.fetch_add(1, std::memory_order_relaxed);
  // A jump leaves the handler's signal mask in place: put back that of the moment of the fault.
  pthread_sigmask(SIG_SETMASK, &static_cast<ucontext_t*>(context)->uc_sigmask, nullptr);
  siglongjmp(frame->jump, 1);
}

}  // namespace

void install_fault_guard() noexcept {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, nullptr);
    sigaction(SIGSEGV, &action, nullptr);
  });
}

uint64_t guarded_fault_count() noexcept { return fault_count.load(std::memory_order_relaxed); }

}  // namespace flexins::base
