#include "daemon/worker_thread.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/check.h"
#include "base/scheduling.h"

namespace flexins::daemon {
namespace {

// A core that spins does not need to hear of more at once; the next step looks at everything.
constexpr int kEventsPerWait = 16;
// Keeps arithmetic on far deadlines away from the limits of timespec and int.
constexpr base::TimeNs kLongestWait = 3600 * base::kSecond;

void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void bump(std::atomic<uint64_t>& counter) {
  // One writer: a plain add, visible to readers whole.
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void stay_on(pthread_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  const int failed = ::pthread_setaffinity_np(thread, sizeof set, &set);
  if (failed != 0) throw std::system_error(failed, std::generic_category(), "worker's CPU");
}

}  // namespace

base::TimeNs monotonic_now() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<base::TimeNs>(now.tv_sec) * base::kSecond +
         static_cast<base::TimeNs>(now.tv_nsec);
}

WorkerThread::WorkerThread(engine::Engine& engine, const WorkerOptions& options)
    : engine_(engine),
      options_(options),
      idle_(options.idle),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      command_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!epoll_.valid() || !command_event_.valid()) {
    throw std::system_error(errno, std::generic_category(), "worker's epoll");
  }
  // Edge-triggered: a write is an event of its own, so nobody has to read the counter back.
  watch(command_event_.get(), EPOLLIN | EPOLLET);
  for (const int fd : options_.poll_fds) watch(fd, EPOLLIN);
  thread_ = std::thread([this] { loop(); });
  if (options_.cpu >= 0) {
    try {
      stay_on(thread_.native_handle(), options_.cpu);
    } catch (...) {
      run([this](engine::Engine&) { stopping_ = true; });
      thread_.join();
      throw;
    }
  }
}

WorkerThread::~WorkerThread() {
  run([this](engine::Engine&) { stopping_ = true; });
  thread_.join();
}

void WorkerThread::watch(int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw std::system_error(errno, std::generic_category(), "worker's epoll_ctl");
  }
}

void WorkerThread::run(Command command) {
  FLEXINS_CHECK(command_.load(std::memory_order_relaxed) == nullptr);
  const uint32_t before = commands_done_.load(std::memory_order_relaxed);
  command_.store(&command, std::memory_order_seq_cst);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(command_event_.get(), &one, sizeof one);
  commands_done_.wait(before, std::memory_order_acquire);
}

void WorkerThread::take_command() {
  if (command_.load(std::memory_order_relaxed) == nullptr) return;
  const Command* command = command_.load(std::memory_order_acquire);
  (*command)(engine_);
  command_.store(nullptr, std::memory_order_relaxed);
  commands_done_.fetch_add(1, std::memory_order_release);
  commands_done_.notify_one();
}

void WorkerThread::loop() {
  ::pthread_setname_np(::pthread_self(), "flexins-worker");
  base::ask_for_short_slices();
  for (;;) {
    take_command();
    if (stopping_) return;
    const base::TimeNs now = monotonic_now();
    bump(steps_);
    if (engine_.step(now)) {
      idle_.worked(now);
    } else {
      wait_for_work(now);
    }
  }
}

void WorkerThread::wait_for_work(base::TimeNs now) {
  if (options_.spin_for_ever) return relax();
  switch (idle_.idle(now)) {
    case IdleAction::kSpin: return relax();
    case IdleAction::kYield: ::sched_yield(); return idle_.yielded(monotonic_now() - now);
    case IdleAction::kSleep: return sleep();
  }
}

void WorkerThread::announce_sleep(bool asleep) {
  for (std::atomic<uint32_t>* need_wakeup : need_wakeups_) {
    need_wakeup->store(asleep ? 1 : 0, std::memory_order_relaxed);
  }
}

void WorkerThread::sleep() {
  idle_.slept();
  announce_sleep(true);
  // Whoever publishes after this fence sees the wish; what was published before, the step sees.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const base::TimeNs now = monotonic_now();
  bump(steps_);
  if (engine_.step(now)) {
    bump(wakeups_avoided_);
    idle_.worked(now);
  } else if (command_.load(std::memory_order_seq_cst) == nullptr) {
    bump(sleeps_);
    block(now);
  }
  announce_sleep(false);
}

void WorkerThread::block(base::TimeNs now) {
  const base::TimeNs next = engine_.next_event();
  const base::TimeNs wait_ns = next > now ? next - now : 0;
  timespec timeout{};
  timeout.tv_sec = static_cast<time_t>(std::min(wait_ns, kLongestWait) / base::kSecond);
  timeout.tv_nsec = static_cast<long>(std::min(wait_ns, kLongestWait) % base::kSecond);
  epoll_event events[kEventsPerWait];
  const timespec* until = next == base::kNever ? nullptr : &timeout;
  if (::epoll_pwait2(epoll_.get(), events, kEventsPerWait, until, nullptr) >= 0) return;
  if (errno != ENOSYS) return;
  // Before Linux 5.11: whole milliseconds, rounded up so that a near deadline does not spin.
  const auto wait_ms = static_cast<int>((std::min(wait_ns, kLongestWait) + base::kMillisecond - 1) /
                                        base::kMillisecond);
  ::epoll_wait(epoll_.get(), events, kEventsPerWait, next == base::kNever ? -1 : wait_ms);
}

base::Result<void> WorkerThread::add_sleeper(std::atomic<uint32_t>& need_wakeup, int wake_fd) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_fd, &event) != 0) {
    return base::Error{errno, std::string("wake descriptor: ") + std::strerror(errno)};
  }
  need_wakeups_.push_back(&need_wakeup);
  return {};
}

void WorkerThread::remove_sleeper(std::atomic<uint32_t>& need_wakeup, int wake_fd) {
  // The other side holds the eventfd too, so closing ours would not take it out of the set.
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, wake_fd, nullptr);
  std::erase(need_wakeups_, &need_wakeup);
}

WorkerCounters WorkerThread::counters() const {
  WorkerCounters counters;
  counters.steps = steps_.load(std::memory_order_relaxed);
  counters.sleeps = sleeps_.load(std::memory_order_relaxed);
  counters.wakeups_avoided = wakeups_avoided_.load(std::memory_order_relaxed);
  clockid_t clock{};
  timespec spent{};
  auto handle = const_cast<std::thread&>(thread_).native_handle();
  if (::pthread_getcpuclockid(handle, &clock) == 0 && ::clock_gettime(clock, &spent) == 0) {
    counters.cpu_ns = static_cast<base::TimeNs>(spent.tv_sec) * base::kSecond +
                      static_cast<base::TimeNs>(spent.tv_nsec);
  }
  return counters;
}

}  // namespace flexins::daemon
