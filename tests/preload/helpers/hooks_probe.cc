// Plays libibverbs and the provider: registers hooks with the preload library and does what makes
// it call them. Prints one line per finding.

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "protocol/preload_hooks.h"

namespace {

int device_fd = -1;
int event_fd = -1;

int create_channel(int fd) {
  if (fd != device_fd) return -ENOTTY;
  return ::open("/dev/zero", O_RDONLY);
}

ssize_t read_eof(int fd, void* buffer, size_t length) {
  if (fd != event_fd) return 0;
  if (length < 4) return -EINVAL;
  std::memcpy(buffer, "last", 4);
  return 4;
}

void channel_closing(int fd) { std::printf("closing a channel: %d\n", fd > 2); }

int async_descriptor(int fd) { return fd == device_fd ? 4711 : -ENOTTY; }

constexpr flexins_preload_hooks kHooks{FLEXINS_PRELOAD_HOOKS_VERSION,
                                       sizeof(kHooks),
                                       create_channel,
                                       read_eof,
                                       channel_closing,
                                       async_descriptor};

/// What libibverbs' ibv_import_device asks the device for; -1 when it gets no answer.
long ask_for_async_descriptor(int fd) {
  constexpr size_t kBytes = offsetof(ib_uverbs_ioctl_hdr, attrs) + sizeof(ib_uverbs_attr);
  alignas(ib_uverbs_ioctl_hdr) unsigned char request[kBytes] = {};
  auto* header = reinterpret_cast<ib_uverbs_ioctl_hdr*>(request);
  header->length = kBytes;
  header->object_id = UVERBS_OBJECT_ASYNC_EVENT;
  header->method_id = UVERBS_METHOD_ASYNC_EVENT_ALLOC;
  header->num_attrs = 1;
  return ::ioctl(fd, RDMA_VERBS_IOCTL, request) == 0 ? header->attrs[0].data_s64 : -1;
}

struct Request {
  ib_uverbs_cmd_hdr header;
  ib_uverbs_create_comp_channel body;
};

/// What libibverbs' ibv_create_comp_channel does. The channel's descriptor, or -1.
int ask_for_channel(int fd) {
  ib_uverbs_create_comp_channel_resp response{};
  response.fd = ~0U;
  Request request{};
  request.header.command = IB_USER_VERBS_CMD_CREATE_COMP_CHANNEL;
  request.header.in_words = sizeof request / 4;
  request.header.out_words = sizeof response / 4;
  request.body.response = reinterpret_cast<uintptr_t>(&response);
  if (::write(fd, &request, sizeof request) != sizeof request) return -1;
  return static_cast<int>(response.fd);
}

void probe_netlink() {
  const int rdma = ::socket(AF_NETLINK, SOCK_RAW, NETLINK_RDMA);
  std::printf("rdma netlink: %s\n", rdma >= 0 ? "open" : std::strerror(errno));
  const int route = ::socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  std::printf("route netlink: %s\n", route >= 0 ? "open" : std::strerror(errno));
}

}  // namespace

int main() {
  probe_netlink();
  auto register_hooks = reinterpret_cast<flexins_preload_register_fn>(
      ::dlsym(RTLD_DEFAULT, FLEXINS_PRELOAD_REGISTER_NAME));
  if (register_hooks == nullptr) return 0;
  flexins_preload_hooks newer = kHooks;
  newer.version = FLEXINS_PRELOAD_HOOKS_VERSION + 1;
  std::printf("newer version: %s\n", std::strerror(-register_hooks(&newer)));
  device_fd = ::open("/dev/null", O_RDWR);
  std::printf("channel before hooks: %d\n", ask_for_channel(device_fd) >= 0);
  std::printf("register: %d\n", register_hooks(&kHooks));

  const int channel = ask_for_channel(device_fd);
  std::printf("channel: %d\n", channel > 2);
  std::printf("async events: %ld, of another device: %ld\n", ask_for_async_descriptor(device_fd),
              ask_for_async_descriptor(::open("/dev/null", O_RDWR)));
  std::printf("channel of another device: %d\n", ask_for_channel(::open("/dev/null", O_RDWR)) > 2);
  std::fflush(stdout);
  if (const pid_t child = ::fork(); child == 0) {
    ::close(channel);
    std::exit(0);
  } else {
    ::waitpid(child, nullptr, 0);
  }
  std::printf("closing: %d\n", ::close(channel));

  char text[8] = {};
  event_fd = ::open("/dev/null", O_RDONLY);
  std::printf("read: %zd %s\n", ::read(event_fd, text, sizeof text), text);
  const ssize_t short_read = ::read(event_fd, text, 2);
  std::printf("short read: %zd %s\n", short_read, std::strerror(errno));
  const int other = ::open("/dev/null", O_RDONLY);
  std::printf("read of another: %zd\n", ::read(other, text, sizeof text));
}
