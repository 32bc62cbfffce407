#include "daemon/event_pipes.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace flexins::daemon {

base::Result<EventPipe> EventPipe::create() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) {
    return base::Error{errno, std::string("event pipe: ") + std::strerror(errno)};
  }
  EventPipe pipe{base::UniqueFd(fds[0]), base::UniqueFd(fds[1])};
  // Not on the read end: whether reading blocks is the program's choice.
  if (::fcntl(pipe.write.get(), F_SETFL, O_NONBLOCK) != 0) {
    return base::Error{errno, std::string("event pipe: ") + std::strerror(errno)};
  }
  return pipe;
}

void EventPipes::completion_event(base::ChannelId channel, uint64_t cq_cookie) noexcept {
  const auto found = channels_.find(channel);
  if (found == channels_.end()) return;
  put(found->second.get(), &cq_cookie, sizeof cq_cookie);
}

void EventPipes::async_event(uint64_t element_cookie, base::AsyncEvent event) noexcept {
  struct Record {  // struct ib_uverbs_async_event_desc
    uint64_t element;
    uint32_t event_type;
    uint32_t reserved;
  };
  static_assert(sizeof(Record) == 16);
  const Record record{element_cookie, static_cast<uint32_t>(event), 0};
  put(async_.get(), &record, sizeof record);
}

void EventPipes::add_channel(base::ChannelId channel, base::UniqueFd write) {
  channels_.insert_or_assign(channel, std::move(write));
}

base::UniqueFd EventPipes::remove_channel(base::ChannelId channel) {
  const auto found = channels_.find(channel);
  if (found == channels_.end()) return {};
  base::UniqueFd fd = std::move(found->second);
  channels_.erase(found);
  return fd;
}

void EventPipes::put(int fd, const void* record, size_t bytes) noexcept {
  // Records are far below PIPE_BUF: written whole or not at all.
  if (::write(fd, record, bytes) != static_cast<ssize_t>(bytes)) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace flexins::daemon
