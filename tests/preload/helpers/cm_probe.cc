// Plays librdmacm: opens the rdma_cm device and writes commands to it. Prints one line per finding.

#include <fcntl.h>
#include <poll.h>
#include <rdma/rdma_user_cm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr uint64_t kUid = 5;

template <typename Command>
const char* perform(int fd, uint32_t number, const Command& command, size_t room = 0) {
  struct {
    rdma_ucm_cmd_hdr header;
    Command command;
  } __attribute__((packed)) request{};
  request.header.cmd = number;
  request.header.in = sizeof command;
  request.header.out = static_cast<__u16>(room);
  request.command = command;
  const ssize_t written = ::write(fd, &request, sizeof request);
  if (written == static_cast<ssize_t>(sizeof request)) return "done";
  return written == -1 ? std::strerror(errno) : "cut short";
}

bool readable(int fd) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, 0) == 1;
}

void wait_readable(int fd) {
  pollfd one{fd, POLLIN, 0};
  ::poll(&one, 1, 10'000);
}

void event(int fd) {
  rdma_ucm_event_resp response{};
  rdma_ucm_get_event command{};
  command.response = reinterpret_cast<uintptr_t>(&response);
  const char* result = perform(fd, RDMA_USER_CM_CMD_GET_EVENT, command, sizeof response);
  std::printf("event: %s, %u of %llu\n", result, response.event,
              static_cast<unsigned long long>(response.uid));
}

}  // namespace

int main() {
  const int fd = ::open("/dev/infiniband/rdma_cm", O_RDWR | O_CLOEXEC);
  struct stat status {};
  if (fd < 0 || ::fstat(fd, &status) != 0) {
    std::printf("open: %s\n", std::strerror(errno));
    return 0;
  }
  std::printf("open: %s\n", S_ISCHR(status.st_mode) ? "a character device" : "something else");
  std::printf("close-on-exec: %d\n", ::fcntl(fd, F_GETFD) & FD_CLOEXEC);
  std::printf("readable: %d\n", readable(fd));

  rdma_ucm_create_id_resp created{};
  rdma_ucm_create_id create{};
  create.uid = kUid;
  create.response = reinterpret_cast<uintptr_t>(&created);
  const char* result = perform(fd, RDMA_USER_CM_CMD_CREATE_ID, create, sizeof created);
  std::printf("create: %s, id %u\n", result, created.id);
  wait_readable(fd);
  std::printf("readable: %d\n", readable(fd));
  event(::dup(fd));
  std::printf("readable: %d\n", readable(fd));
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  event(fd);
  ::fcntl(fd, F_SETFL, 0);

  const uint32_t value = 0x11223344;
  rdma_ucm_set_option option{};
  option.id = created.id;
  option.optval = reinterpret_cast<uintptr_t>(&value);
  option.optlen = sizeof value;
  std::printf("option: %s\n", perform(fd, RDMA_USER_CM_CMD_SET_OPTION, option));
  std::printf("listen: %s\n", perform(fd, RDMA_USER_CM_CMD_LISTEN, rdma_ucm_listen{7, 1}));
  std::fflush(stdout);
  if (::fork() == 0) {
    std::printf("in a child: %s\n", perform(fd, RDMA_USER_CM_CMD_NOTIFY, rdma_ucm_notify{7, 4}));
    std::fflush(stdout);
    std::_Exit(0);
  }
  ::wait(nullptr);

  // At this one the engine dies.
  std::printf("disconnect: %s\n", perform(fd, RDMA_USER_CM_CMD_DISCONNECT, rdma_ucm_disconnect{7}));
  event(fd);
  event(fd);
  rdma_ucm_destroy_id_resp destroyed{};
  rdma_ucm_destroy_id destroy{};
  destroy.id = created.id;
  destroy.response = reinterpret_cast<uintptr_t>(&destroyed);
  result = perform(fd, RDMA_USER_CM_CMD_DESTROY_ID, destroy, sizeof destroyed);
  std::printf("destroy: %s, %u events\n", result, destroyed.events_reported);
  std::printf("other: %s\n", perform(fd, RDMA_USER_CM_CMD_LISTEN, rdma_ucm_listen{7, 1}));
  std::printf("ordinary write: %s\n", perform(::open("/dev/null", O_WRONLY), 3, uint64_t{1}));
}
