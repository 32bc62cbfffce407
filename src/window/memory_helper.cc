#include "window/memory_helper.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "base/scheduling.h"

namespace flexins::window {
namespace {

constexpr uint64_t kWord = 8;
/// How long the thread stays awake after a request: a wake-up costs 50 times what the access does.
constexpr base::TimeNs kAwake = 100 * base::kMicrosecond;
/// How often a caller looks whether the helper is blocked in the kernel or only not scheduled.
constexpr base::TimeNs kLookInterval = 2 * base::kMillisecond;
/// How long a caller waits for a helper that is blocked before it leaves the access alone.
constexpr base::TimeNs kBlockedPatience = 4 * base::kMillisecond;
/// A starved machine may leave the runnable helper unscheduled; no more than this, though.
constexpr base::TimeNs kPatience = 50 * base::kMillisecond;
/// Pages under adoption refuse access for a moment. What all retries together may cost a process:
/// otherwise a program could keep a worker waiting with unmapped memory.
constexpr base::TimeNs kRetryBudget = 100 * base::kMillisecond;
constexpr base::TimeNs kRetryPerAccess = 5 * base::kMillisecond;

base::TimeNs now() noexcept {
  return static_cast<base::TimeNs>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                       std::chrono::steady_clock::now().time_since_epoch())
                                       .count());
}

/// Spins a little, then gives the core away: the other side may be waiting for it.
class Waiter {
 public:
  void pause() noexcept {
    if (++rounds_ < kSpins) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else {
      ::sched_yield();
    }
  }
  [[nodiscard]] bool time_to_look_at_clock() const noexcept { return rounds_ % 32 == 0; }

 private:
  static constexpr uint32_t kSpins = 64;
  uint32_t rounds_ = 0;
};

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<uint32_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

base::Result<std::unique_ptr<MemoryHelper>> MemoryHelper::start(base::UniqueFd fd) {
  auto shared = std::make_shared<Shared>();
  shared->fd = std::move(fd);
  shared->retry_budget = kRetryBudget;
  std::unique_ptr<MemoryHelper> helper(new MemoryHelper(shared));
  // Signals are the daemon's main thread's affair.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  base::Result<std::unique_ptr<MemoryHelper>> result = base::Error{EAGAIN, "no helper thread"};
  try {
    helper->thread_ = std::thread(run, std::move(shared));
    result = std::move(helper);
  } catch (const std::system_error& error) {
    result = base::Error{EAGAIN, std::string("cannot start a memory helper: ") + error.what()};
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result;
}

MemoryHelper::~MemoryHelper() {
  if (!thread_.joinable()) return;
  if (look_after_stall() != AccessResult::kDone) {
    // It ends by itself when the kernel lets it go.
    poison();
    thread_.detach();
    return;
  }
  submit(Operation::kStop);
  thread_.join();
}

// ---- the caller's side ----

/// kLater: another worker's access, or one that was left alone, is under way.
MemoryHelper::AccessResult MemoryHelper::acquire() noexcept {
  Waiter waiter;
  base::TimeNs started = 0;
  while (!shared_->poisoned.load(std::memory_order_acquire)) {
    if (!busy_.exchange(true, std::memory_order_acquire)) {
      const AccessResult free = look_after_stall();
      if (free != AccessResult::kDone) release();
      return free;
    }
    waiter.pause();
    if (!waiter.time_to_look_at_clock()) continue;
    const base::TimeNs instant = now();
    if (started == 0) started = instant;
    if (instant - started > kPatience) return AccessResult::kLater;
  }
  return AccessResult::kFailed;
}

/// What has become of an access that was left alone. kDone: there is none any more.
MemoryHelper::AccessResult MemoryHelper::look_after_stall() noexcept {
  if (shared_->poisoned.load(std::memory_order_acquire)) return AccessResult::kFailed;
  if (stalled_since_ == base::kNever) return AccessResult::kDone;
  if (shared_->state.load(std::memory_order_acquire) == kDone) {
    shared_->state.store(kIdle, std::memory_order_relaxed);
    stalled_since_ = base::kNever;
    return AccessResult::kDone;
  }
  if (now() - stalled_since_ < kStallLimit || helper_is_runnable()) return AccessResult::kLater;
  poison();
  return AccessResult::kFailed;
}

void MemoryHelper::submit(Operation operation) noexcept {
  shared_->operation = operation;
  if (shared_->state.exchange(kRequested, std::memory_order_acq_rel) == kAsleep) {
    futex_wake(shared_->state);
  }
}

bool MemoryHelper::helper_is_runnable() const noexcept {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat",
                shared_->thread_id.load(std::memory_order_acquire));
  base::UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  char line[256];
  const ssize_t length = fd.valid() ? ::read(fd.get(), line, sizeof line - 1) : -1;
  if (length <= 0) return false;
  line[length] = '\0';
  // "tid (name) state …": the name may hold anything, so the state is behind the last bracket.
  const char* bracket = std::strrchr(line, ')');
  return bracket != nullptr && bracket[1] == ' ' && bracket[2] == 'R';
}

MemoryHelper::AccessResult MemoryHelper::await_done() noexcept {
  Waiter waiter;
  base::TimeNs started = 0;
  base::TimeNs look_at = 0;
  base::TimeNs blocked_since = base::kNever;
  while (shared_->state.load(std::memory_order_acquire) != kDone) {
    waiter.pause();
    if (!waiter.time_to_look_at_clock()) continue;
    const base::TimeNs instant = now();
    if (started == 0) {
      started = instant;
      stall_budget_ = std::min(kStallBudget, stall_budget_ + (instant - budget_as_of_) / 100);
      budget_as_of_ = instant;
      look_at = instant + std::min(kLookInterval, stall_budget_);
    }
    if (instant < look_at) continue;
    if (helper_is_runnable()) {
      blocked_since = base::kNever;
    } else if (blocked_since == base::kNever) {
      blocked_since = look_at - std::min(kLookInterval, stall_budget_);
    }
    const bool blocked = blocked_since != base::kNever &&
                         instant - blocked_since >= std::min(kBlockedPatience, stall_budget_);
    if (blocked) stall_budget_ -= std::min(stall_budget_, instant - blocked_since);
    if (blocked || instant - started >= kPatience) return leave(instant);
    look_at = instant + kLookInterval;
  }
  shared_->state.store(kIdle, std::memory_order_relaxed);
  return shared_->succeeded ? AccessResult::kDone : AccessResult::kFailed;
}

/// Takes the request back if the helper has not begun with it, else leaves it to itself.
MemoryHelper::AccessResult MemoryHelper::leave(base::TimeNs instant) noexcept {
  uint32_t state = kRequested;
  if (shared_->state.compare_exchange_strong(state, kIdle, std::memory_order_acq_rel)) {
    return AccessResult::kLater;
  }
  stalled_since_ = instant;
  return AccessResult::kLater;
}

MemoryHelper::AccessResult MemoryHelper::request(Operation operation, uint64_t address,
                                                 size_t length) noexcept {
  shared_->address = address;
  shared_->length = length;
  submit(operation);
  return await_done();
}

MemoryHelper::AccessResult MemoryHelper::read(uint64_t address, std::span<std::byte> out) noexcept {
  AccessResult result = acquire();
  if (result != AccessResult::kDone) return result;
  while (!out.empty()) {
    const size_t step = std::min(out.size(), kBounceBytes);
    result = request(Operation::kRead, address, step);
    if (result != AccessResult::kDone) break;
    std::memcpy(out.data(), shared_->bounce.data(), step);
    address += step;
    out = out.subspan(step);
  }
  release();
  return result;
}

MemoryHelper::AccessResult MemoryHelper::write(uint64_t address,
                                               std::span<const std::byte> in) noexcept {
  AccessResult result = acquire();
  if (result != AccessResult::kDone) return result;
  while (result == AccessResult::kDone && !in.empty()) {
    const size_t step = std::min(in.size(), kBounceBytes - address % kWord);
    std::memcpy(shared_->bounce.data(), in.data(), step);
    result = request(Operation::kWrite, address, step);
    address += step;
    in = in.subspan(step);
  }
  release();
  return result;
}

void MemoryHelper::settle() noexcept {
  Waiter waiter;
  const base::TimeNs started = now();
  while (busy_.exchange(true, std::memory_order_acquire)) {
    waiter.pause();
    if (now() - started > kPatience) return;
  }
  base::TimeNs waited = 0;
  while (look_after_stall() == AccessResult::kLater && waited < stall_budget_) {
    waiter.pause();
    waited = now() - started;
  }
  stall_budget_ -= std::min(stall_budget_, waited);
  release();
}

// ---- the thread's side ----

/// False when the helper was given up.
bool MemoryHelper::await_request(Shared& shared) noexcept {
  Waiter waiter;
  base::TimeNs started = 0;
  for (;;) {
    uint32_t requested = kRequested;
    if (shared.state.compare_exchange_strong(requested, kServing, std::memory_order_acq_rel)) {
      return true;
    }
    waiter.pause();
    if (!waiter.time_to_look_at_clock()) continue;
    const base::TimeNs instant = now();
    if (started == 0) started = instant;
    if (instant - started < kAwake) continue;
    if (shared.poisoned.load(std::memory_order_acquire)) return false;
    uint32_t expected = kIdle;
    if (shared.state.compare_exchange_strong(expected, kAsleep, std::memory_order_acq_rel)) {
      while (shared.state.load(std::memory_order_acquire) == kAsleep) {
        futex_wait(shared.state, kAsleep);
      }
    }
    started = 0;
  }
}

void MemoryHelper::run(std::shared_ptr<Shared> shared) noexcept {
  shared->thread_id.store(static_cast<int>(::syscall(SYS_gettid)), std::memory_order_release);
  // A worker waits for each answer, and may share its core with a program that spins.
  base::ask_for_short_slices();
  while (await_request(*shared) && shared->operation != Operation::kStop) {
    shared->succeeded = serve(*shared);
    shared->state.store(kDone, std::memory_order_release);
  }
}

bool MemoryHelper::serve(Shared& shared) noexcept {
  size_t bulk = 0;
  if (shared.operation == Operation::kWrite) {
    // The kernel copies in an order of its own; the word that holds the last byte goes by itself.
    const uint64_t last_word = (shared.address + shared.length - 1) / kWord * kWord;
    if (last_word > shared.address) bulk = last_word - shared.address;
  }
  return (bulk == 0 || transfer(shared, 0, bulk)) && transfer(shared, bulk, shared.length);
}

bool MemoryHelper::transfer(Shared& shared, size_t from, size_t to) noexcept {
  base::TimeNs started = 0;
  while (from < to) {
    // An address of 2^63 or more would be a negative offset; procfs takes it, no mapping is there.
    const auto offset = static_cast<off_t>(shared.address + from);
    std::byte* bytes = shared.bounce.data() + from;
    const ssize_t done = shared.operation == Operation::kRead
                             ? ::pread(shared.fd.get(), bytes, to - from, offset)
                             : ::pwrite(shared.fd.get(), bytes, to - from, offset);
    if (done > 0) {
      from += static_cast<size_t>(done);
    } else if (done == 0 || (errno != EINTR && !try_again(shared, started))) {
      return false;  // 0: the program has ended
    }
  }
  return true;
}

bool MemoryHelper::try_again(Shared& shared, base::TimeNs& started) noexcept {
  if (errno != EIO && errno != EFAULT) return false;
  const base::TimeNs instant = now();
  if (started == 0) started = instant;
  const base::TimeNs waited = instant - started;
  if (waited < std::min(kRetryPerAccess, shared.retry_budget)) {
    ::sched_yield();
    return true;
  }
  shared.retry_budget -= std::min(waited, shared.retry_budget);
  return false;
}

}  // namespace flexins::window
