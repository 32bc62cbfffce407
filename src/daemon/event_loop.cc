#include "daemon/event_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace flexins::daemon {
namespace {

constexpr int kEventsPerWait = 64;
constexpr base::TimeNs kLongestWait = 3600 * base::kSecond;

}  // namespace

EventLoop::EventLoop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_.valid()) throw std::system_error(errno, std::generic_category(), "epoll");
}

void EventLoop::add(int fd, uint32_t events, std::function<void(uint32_t)> handler) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  }
  handlers_[fd] = std::make_shared<std::function<void(uint32_t)>>(std::move(handler));
}

void EventLoop::change(int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::remove(int fd) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  handlers_.erase(fd);
}

void EventLoop::run_once(base::TimeNs timeout) {
  epoll_event events[kEventsPerWait];
  const base::TimeNs bounded = std::min(timeout, kLongestWait);
  const auto wait_ms = static_cast<int>((bounded + base::kMillisecond - 1) / base::kMillisecond);
  const int ready =
      ::epoll_wait(epoll_.get(), events, kEventsPerWait, timeout == base::kNever ? -1 : wait_ms);
  for (int i = 0; i < ready; ++i) {
    const auto found = handlers_.find(events[i].data.fd);
    if (found == handlers_.end()) continue;  // removed by a handler before this one
    const auto handler = found->second;      // lives through its own removal
    (*handler)(events[i].events);
  }
}

}  // namespace flexins::daemon
