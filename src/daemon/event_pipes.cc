#include "daemon/event_pipes.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace flexins::daemon {

namespace {

/// struct ib_uverbs_async_event_desc.
struct AsyncRecord {
  uint64_t element;
  uint32_t event_type;
  uint32_t reserved;
};
static_assert(sizeof(AsyncRecord) == 16);

constexpr size_t kUsualPipeBytes = 64 * 1024;

/// struct ib_uverbs_comp_event_desc.
using CompletionRecord = uint64_t;

base::Error failed() {
  return base::Error{errno, std::string("event pipe: ") + std::strerror(errno)};
}

/// Removes the records of `cookie` from `bytes` bytes at `records`. Returns the bytes left; what is
/// no whole record stays.
size_t remove_records(std::byte* records, size_t bytes, size_t record_bytes, uint64_t cookie) {
  size_t kept = 0;
  for (size_t at = 0; at < bytes; at += record_bytes) {
    const size_t length = std::min(record_bytes, bytes - at);
    uint64_t found = ~cookie;
    if (length == record_bytes) std::memcpy(&found, records + at, sizeof found);
    if (found == cookie) continue;
    std::memmove(records + kept, records + at, length);
    kept += length;
  }
  return kept;
}

}  // namespace

base::Result<EventPipe> EventPipe::create() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return failed();
  EventPipe pipe{base::UniqueFd(fds[0]), {}};
  const base::UniqueFd write(fds[1]);
  // An open file of our own: whether the application's end blocks is its choice.
  const std::string path = "/proc/self/fd/" + std::to_string(write.get());
  pipe.ours.reset(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!pipe.ours.valid()) return failed();
  return pipe;
}

bool EventPipes::completion_event(base::ChannelId channel, uint64_t cq_cookie) noexcept {
  const auto found = channels_.find(channel);
  if (found == channels_.end()) return false;
  const CompletionRecord record = cq_cookie;
  return put(found->second.get(), &record, sizeof record);
}

bool EventPipes::async_event(uint64_t element_cookie, base::AsyncEvent event) noexcept {
  const AsyncRecord record{element_cookie, static_cast<uint32_t>(event), 0};
  return put(async_.get(), &record, sizeof record);
}

uint32_t EventPipes::withdraw_completion_events(base::ChannelId channel,
                                                uint64_t cq_cookie) noexcept {
  const auto found = channels_.find(channel);
  if (found == channels_.end()) return 0;
  return withdraw(found->second.get(), sizeof(CompletionRecord), cq_cookie);
}

uint32_t EventPipes::withdraw_async_events(uint64_t element_cookie) noexcept {
  return withdraw(async_.get(), sizeof(AsyncRecord), element_cookie);
}

void EventPipes::add_channel(base::ChannelId channel, base::UniqueFd ours) {
  channels_.insert_or_assign(channel, std::move(ours));
}

base::UniqueFd EventPipes::remove_channel(base::ChannelId channel) {
  const auto found = channels_.find(channel);
  if (found == channels_.end()) return {};
  base::UniqueFd fd = std::move(found->second);
  channels_.erase(found);
  return fd;
}

bool EventPipes::put(int fd, const void* records, size_t bytes) noexcept {
  // A record is far below PIPE_BUF: written whole or not at all.
  if (::write(fd, records, bytes) == static_cast<ssize_t>(bytes)) return true;
  dropped_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

uint32_t EventPipes::withdraw(int fd, size_t record_bytes, uint64_t cookie) noexcept {
  // Only we write, so there is room for what is put back. A pipe of the usual size is read in one
  // piece, so that an application that reads meanwhile sees what is left in order.
  std::byte records[kUsualPipeBytes];
  int waiting = 0;
  if (::ioctl(fd, FIONREAD, &waiting) != 0) return 0;
  size_t removed = 0;
  for (auto left = static_cast<size_t>(std::max(waiting, 0)); left > 0;) {
    const size_t wanted = std::min(left, sizeof records);
    const ssize_t got = ::read(fd, records, wanted);
    if (got <= 0) break;
    const auto bytes = static_cast<size_t>(got);
    left = bytes < wanted ? 0 : left - bytes;  // less where the application was quicker
    const size_t kept = remove_records(records, bytes, record_bytes, cookie);
    removed += bytes - kept;
    if (kept > 0) put(fd, records, kept);
  }
  return static_cast<uint32_t>(removed / record_bytes);
}

}  // namespace flexins::daemon
