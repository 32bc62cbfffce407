#include <errno.h>

#include <algorithm>
#include <cstring>

#include "provider/cq.h"
#include "provider/events.h"

// Completion channels, and what a program that waits for an event gets when its engine has died.

namespace flexins::provider {
namespace {
constexpr int kEndOfSessionPatienceMs = 500;
}  // namespace

int Context::create_channel() {
  protocol::CreateChannelRequest request{};
  protocol::CreateChannelReply reply{};
  protocol::ReceivedFds fds;
  if (const int error = call(request, reply, {}, &fds); error != 0) return -error;
  base::UniqueFd fd = fds.take(0);
  if (!fd.valid()) return -EIO;
  // A channel of the same number was closed behind our back: a program closes them by itself.
  channel_closing(fd.get());
  const std::lock_guard lock(mutex_);
  channels_.push_back(Channel{fd.get(), reply.channel});
  return fd.release();
}

void Context::channel_closing(int fd) {
  protocol::DestroyChannelRequest request{};
  {
    const std::lock_guard lock(mutex_);
    const auto at = std::find_if(channels_.begin(), channels_.end(),
                                 [fd](const Channel& c) { return c.fd == fd; });
    if (at == channels_.end()) return;
    request.channel = at->id;
    channels_.erase(at);
  }
  call_to_free(request);
}

uint32_t Context::channel_id(int fd) {
  const std::lock_guard lock(mutex_);
  for (const Channel& channel : channels_) {
    if (channel.fd == fd) return channel.id;
  }
  return 0;
}

ssize_t Context::read_eof(int fd, void* buffer, size_t length) {
  if (state() == ContextState::kForeign) return 0;
  const std::lock_guard lock(mutex_);
  const bool async = fd == async_fd_;
  const bool channel = std::any_of(channels_.begin(), channels_.end(),
                                   [fd](const Channel& c) { return c.fd == fd; });
  if (!async && !channel) return 0;
  // A dying process closes its descriptors one by one: the session's end may lag behind this one's.
  if (check_liveness_now(kEndOfSessionPatienceMs)) return 0;
  return async ? last_async_event(buffer, length) : last_completion_event(fd, buffer, length);
}

/// Once: the device is lost. A second reader, or a second read, learns that there is nothing left.
ssize_t Context::last_async_event(void* buffer, size_t length) {
  if (length < kAsyncRecordBytes || fatal_event_given_) return -EIO;
  fatal_event_given_ = true;
  struct Record {
    uint64_t element;
    uint32_t event_type;
    uint32_t reserved;
  };
  static_assert(sizeof(Record) == kAsyncRecordBytes);
  const Record record{0, IBV_EVENT_DEVICE_FATAL, 0};
  std::memcpy(buffer, &record, sizeof record);
  return sizeof record;
}

/// One event for each CQ of the channel that waits for one and has something to give.
ssize_t Context::last_completion_event(int fd, void* buffer, size_t length) {
  if (length < kCompletionRecordBytes) return -EIO;
  for (Cq* cq : cqs_) {
    if (cq->channel_fd != fd) continue;
    const std::lock_guard lock(cq->lock);
    if (cq->header().armed.load(std::memory_order_relaxed) == pipe::kDisarmed) continue;
    if (!anything_to_flush(*cq)) continue;
    cq->header().armed.store(pipe::kDisarmed, std::memory_order_relaxed);
    const auto cookie = reinterpret_cast<uint64_t>(&cq->face.cq);
    std::memcpy(buffer, &cookie, sizeof cookie);
    return sizeof cookie;
  }
  return -EIO;
}

}  // namespace flexins::provider
