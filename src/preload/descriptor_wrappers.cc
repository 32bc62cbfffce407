// What a program does with descriptors of our device. The provider, which knows them, registers its
// hooks; until then, and for all other descriptors, calls pass through.

#include <linux/netlink.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "preload/cm_channel.h"
#include "preload/real.h"
#include "preload/redirect.h"
#include "protocol/preload_hooks.h"

namespace {

constinit std::atomic<const flexins_preload_hooks*> registered{nullptr};

const flexins_preload_hooks* hooks() { return registered.load(std::memory_order_acquire); }

/// Has the provider a hook at `offset`? One of an older build has fewer.
bool has_hook(const flexins_preload_hooks* provider, size_t offset) {
  return provider != nullptr && provider->size >= offset + sizeof(void (*)());
}

/// Descriptors of completion channels that the program has yet to close. Larger ones are freed with
/// their context.
class ChannelSet {
 public:
  void add(int fd) {
    if (!fits(fd)) return;
    owner_.store(::getpid(), std::memory_order_relaxed);
    words_[word(fd)].fetch_or(bit(fd), std::memory_order_release);
  }
  /// Was it there? A child that closes what it inherited must not end its parent's channel.
  bool take(int fd) {
    if (!fits(fd) || (words_[word(fd)].load(std::memory_order_relaxed) & bit(fd)) == 0)
      return false;
    if (owner_.load(std::memory_order_relaxed) != ::getpid()) return false;
    return (words_[word(fd)].fetch_and(~bit(fd), std::memory_order_acq_rel) & bit(fd)) != 0;
  }

 private:
  static constexpr int kMaxFd = 65536;
  static bool fits(int fd) { return fd >= 0 && fd < kMaxFd; }
  static size_t word(int fd) { return static_cast<size_t>(fd) / 64; }
  static uint64_t bit(int fd) { return uint64_t{1} << (fd % 64); }

  std::atomic<uint64_t> words_[kMaxFd / 64]{};
  std::atomic<pid_t> owner_{0};
};
constinit ChannelSet channels;

/// The one request that libibverbs writes to the device by itself, past the provider.
bool is_create_channel(const void* request, size_t length) {
  if (length != sizeof(ib_uverbs_cmd_hdr) + sizeof(ib_uverbs_create_comp_channel)) return false;
  ib_uverbs_cmd_hdr header;
  std::memcpy(&header, request, sizeof header);
  return header.command == IB_USER_VERBS_CMD_CREATE_COMP_CHANNEL && header.in_words == length / 4 &&
         header.out_words == sizeof(ib_uverbs_create_comp_channel_resp) / 4;
}

/// Answers it as the kernel would: through the response pointer. False: not our descriptor.
bool create_channel(int fd, const void* request, ssize_t& result) {
  const int channel = hooks()->create_channel(fd);
  if (channel == -ENOTTY) return false;
  if (channel < 0) {
    errno = -channel;
    result = -1;
    return true;
  }
  ib_uverbs_create_comp_channel body;
  std::memcpy(&body, static_cast<const char*>(request) + sizeof(ib_uverbs_cmd_hdr), sizeof body);
  ib_uverbs_create_comp_channel_resp response{};
  response.fd = static_cast<__u32>(channel);
  std::memcpy(reinterpret_cast<void*>(body.response), &response, sizeof response);
  channels.add(channel);
  result = sizeof(ib_uverbs_cmd_hdr) + sizeof body;
  return true;
}

/// The request for the descriptor of asynchronous events, which ibv_import_device makes past the
/// provider: a header with one attribute.
constexpr size_t kAsyncDescriptorRequestBytes =
    offsetof(ib_uverbs_ioctl_hdr, attrs) + sizeof(ib_uverbs_attr);

/// Answers it as the kernel would. False: another request, or not our descriptor.
bool answer_async_descriptor(int fd, void* argument) {
  const flexins_preload_hooks* const provider = hooks();
  if (!has_hook(provider, offsetof(flexins_preload_hooks, async_descriptor)) ||
      provider->async_descriptor == nullptr || argument == nullptr) {
    return false;
  }
  ib_uverbs_ioctl_hdr header;
  std::memcpy(static_cast<void*>(&header), argument, sizeof header);
  if (header.length != kAsyncDescriptorRequestBytes || header.num_attrs != 1 ||
      header.object_id != UVERBS_OBJECT_ASYNC_EVENT ||
      header.method_id != UVERBS_METHOD_ASYNC_EVENT_ALLOC) {
    return false;
  }
  const int descriptor = provider->async_descriptor(fd);
  if (descriptor < 0) return false;
  const int64_t answer = descriptor;
  std::memcpy(static_cast<char*>(argument) + offsetof(ib_uverbs_ioctl_hdr, attrs) +
                  offsetof(ib_uverbs_attr, data_s64),
              &answer, sizeof answer);
  return true;
}

/// A read came to its end: perhaps of an event descriptor whose engine died.
ssize_t after_read(ssize_t result, int fd, void* buffer, size_t length) {
  const flexins_preload_hooks* const provider = hooks();
  if (result != 0 || length == 0 || provider == nullptr) return result;
  const ssize_t synthesised = provider->read_eof(fd, buffer, length);
  if (synthesised >= 0) return synthesised;
  errno = static_cast<int>(-synthesised);
  return -1;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int flexins_preload_register(
    const flexins_preload_hooks* provider) {
  if (provider == nullptr || provider->version != FLEXINS_PRELOAD_HOOKS_VERSION ||
      provider->size < offsetof(flexins_preload_hooks, channel_closing)) {
    return -EPROTONOSUPPORT;
  }
  registered.store(provider, std::memory_order_release);
  return 0;
}

FLEXINS_WRAPPER(int, socket, (int domain, int type, int protocol)) {
  // Without RDMA netlink libibverbs turns to sysfs, where our device is.
  if (domain == AF_NETLINK && protocol == NETLINK_RDMA && flexins::preload::active()) {
    errno = EPROTONOSUPPORT;
    return -1;
  }
  return FLEXINS_NEXT(socket)(domain, type, protocol);
}

FLEXINS_WRAPPER(ssize_t, write, (int fd, const void* buffer, size_t length)) {
  ssize_t result = 0;
  if (flexins::preload::cm_write(fd, buffer, length, result)) return result;
  if (hooks() != nullptr && is_create_channel(buffer, length) &&
      create_channel(fd, buffer, result)) {
    return result;
  }
  return FLEXINS_NEXT(write)(fd, buffer, length);
}

FLEXINS_WRAPPER(int, ioctl, (int fd, unsigned long request, void* argument)) {
  if (request == RDMA_VERBS_IOCTL && answer_async_descriptor(fd, argument)) return 0;
  return FLEXINS_NEXT(ioctl)(fd, request, argument);
}

FLEXINS_WRAPPER(ssize_t, read, (int fd, void* buffer, size_t length)) {
  return after_read(FLEXINS_NEXT(read)(fd, buffer, length), fd, buffer, length);
}

FLEXINS_WRAPPER(ssize_t, __read_chk, (int fd, void* buffer, size_t length, size_t room)) {
  return after_read(FLEXINS_NEXT(__read_chk)(fd, buffer, length, room), fd, buffer, length);
}

FLEXINS_WRAPPER(int, close, (int fd)) {
  const flexins_preload_hooks* const provider = hooks();
  if (has_hook(provider, offsetof(flexins_preload_hooks, channel_closing)) &&
      provider->channel_closing != nullptr && channels.take(fd)) {
    provider->channel_closing(fd);
  }
  return FLEXINS_NEXT(close)(fd);
}
