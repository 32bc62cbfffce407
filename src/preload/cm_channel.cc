#include "preload/cm_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <rdma/rdma_user_cm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/unique_fd.h"
#include "preload/cm_ids.h"
#include "preload/real.h"
#include "preload/redirect.h"
#include "protocol/framing.h"
#include "protocol/messages_cm.h"
#include "protocol/runtime_dir.h"

namespace flexins::preload {
namespace {

using protocol::MessageHeader;

constexpr uint32_t kDeviceRemoval = 11;  // enum rdma_cm_event_type

/// The engine's socket. False: its path is too long, or there is no engine.
bool socket_address(sockaddr_un& out) {
  char directory[kMaxRoot];
  if (!engine_directory(directory)) return false;
  const size_t length = std::strlen(directory);
  const std::string_view name = protocol::kCmSocketName;
  if (length + 1 + name.size() >= sizeof out.sun_path) return false;
  out = {};
  out.sun_family = AF_UNIX;
  std::memcpy(out.sun_path, directory, length);
  out.sun_path[length] = '/';
  std::memcpy(out.sun_path + length + 1, name.data(), name.size());
  return true;
}

/// Sends through the program's descriptor, which may be non-blocking.
int send_request(int fd, std::span<const std::byte> message, int reply_end) {
  for (;;) {
    const int error = protocol::send_message(fd, message, {&reply_end, 1});
    if (error != EAGAIN) return error;
    pollfd room{fd, POLLOUT, 0};
    ::poll(&room, 1, -1);
  }
}

/// One request and its reply, past everything else that happens on the channel. Returns 0, the
/// status of the reply, or ENODEV when the engine is gone.
template <typename Request, typename Reply>
int exchange(int fd, Request& request, size_t bytes, Reply& reply) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return errno;
  const base::UniqueFd own(ends[0]);
  base::UniqueFd theirs(ends[1]);
  request.header =
      MessageHeader{static_cast<uint16_t>(Request::kType), 0, static_cast<uint32_t>(bytes), 0, 0};
  const auto* begin = reinterpret_cast<const std::byte*>(&request);
  if (const int error = send_request(fd, {begin, bytes}, theirs.get()); error != 0) {
    return error == EPIPE || error == ECONNRESET || error == ENOTCONN ? ENODEV : error;
  }
  // So that the end of the engine is an end of the waiting.
  theirs.reset();
  protocol::ReceivedFds unwanted;
  std::memset(static_cast<void*>(&reply), 0, sizeof reply);
  const protocol::ReceivedMessage got = protocol::receive_message(
      own.get(), {reinterpret_cast<std::byte*>(&reply), sizeof reply}, unwanted);
  if (got.error != 0) return ENODEV;
  if (got.bytes < sizeof(MessageHeader)) return EPROTO;
  return reply.header.status;
}

ino_t inode_of(int fd) {
  struct stat status {};
  using Fstat = int(int, struct stat*);
  return real<Fstat>(Function::k_fstat)(fd, &status) == 0 ? status.st_ino : 0;
}

void take_bytes(int fd, uint32_t count) {
  char byte;
  while (count-- > 0 && ::recv(fd, &byte, 1, MSG_DONTWAIT) == 1) {
  }
}

/// Where in a command its response pointer stands; kNoResponse: it has none.
constexpr size_t kNoResponse = SIZE_MAX;
size_t response_offset(uint32_t command) {
  switch (command) {
    case RDMA_USER_CM_CMD_CREATE_ID: return offsetof(rdma_ucm_create_id, response);
    case RDMA_USER_CM_CMD_DESTROY_ID:
    case RDMA_USER_CM_CMD_LEAVE_MCAST: return offsetof(rdma_ucm_destroy_id, response);
    case RDMA_USER_CM_CMD_QUERY_ROUTE:
    case RDMA_USER_CM_CMD_QUERY: return offsetof(rdma_ucm_query, response);
    case RDMA_USER_CM_CMD_INIT_QP_ATTR: return offsetof(rdma_ucm_init_qp_attr, response);
    case RDMA_USER_CM_CMD_GET_EVENT: return offsetof(rdma_ucm_get_event, response);
    case RDMA_USER_CM_CMD_JOIN_IP_MCAST: return offsetof(rdma_ucm_join_ip_mcast, response);
    case RDMA_USER_CM_CMD_JOIN_MCAST: return offsetof(rdma_ucm_join_mcast, response);
    case RDMA_USER_CM_CMD_MIGRATE_ID: return offsetof(rdma_ucm_migrate_id, response);
    default: return kNoResponse;
  }
}

/// One command of a program.
class Command {
 public:
  Command(int fd, const rdma_ucm_cmd_hdr& header, const void* input) : fd_(fd), header_(header) {
    request_.command = header.cmd;
    request_.input_bytes = std::min<uint32_t>(header.in, protocol::kCmBytesMax);
    std::memcpy(request_.input, input, request_.input_bytes);
  }

  /// Returns 0 or an errno value.
  int perform() {
    if (header_.in > protocol::kCmBytesMax) return EINVAL;
    switch (header_.cmd) {
      case RDMA_USER_CM_CMD_GET_EVENT: return get_event();
      case RDMA_USER_CM_CMD_MIGRATE_ID: return migrate();
      case RDMA_USER_CM_CMD_SET_OPTION: return set_option();
      case RDMA_USER_CM_CMD_DESTROY_ID: return destroy();
      default: break;
    }
    const int error = ask();
    if (error != 0) return error;
    if (header_.cmd == RDMA_USER_CM_CMD_CREATE_ID) {
      rdma_ucm_create_id_resp response{};
      std::memcpy(&response, reply_.output, sizeof response);
      note_id(inode_of(fd_), response.id, input_as<rdma_ucm_create_id>().uid);
    } else if (header_.cmd == RDMA_USER_CM_CMD_ACCEPT) {
      const auto accept = input_as<rdma_ucm_accept>();
      if (accept.conn_param.valid != 0) note_id(inode_of(fd_), accept.id, accept.uid);
    }
    take_bytes(fd_, reply_.withdrawn_events);
    return respond();
  }

 private:
  template <typename Input>
  [[nodiscard]] Input input_as() const {
    Input input{};
    std::memcpy(&input, request_.input, std::min<size_t>(sizeof input, request_.input_bytes));
    return input;
  }

  int ask() {
    return exchange(fd_, request_, protocol::kCmCommandHeadBytes + request_.input_bytes, reply_);
  }

  int respond() { return respond(reply_.output, reply_.output_bytes); }
  int respond(const void* output, size_t bytes) {
    const size_t offset = response_offset(header_.cmd);
    if (offset == kNoResponse || bytes == 0) return 0;
    if (offset + sizeof(uint64_t) > request_.input_bytes) return EINVAL;
    uint64_t pointer = 0;
    std::memcpy(&pointer, request_.input + offset, sizeof pointer);
    std::memcpy(reinterpret_cast<void*>(pointer), output, std::min<size_t>(bytes, header_.out));
    return 0;
  }

  int get_event() {
    for (;;) {
      // Blocks, or says EAGAIN or EINTR, as the program wants its descriptor to.
      char byte;
      const ssize_t got = ::recv(fd_, &byte, 1, 0);
      if (got < 0 && errno != ECONNRESET) return errno;
      const int error = got == 1 ? ask() : ENODEV;
      if (error == EAGAIN) continue;  // another one was faster, or the id is gone
      if (error == ENODEV) return removal();
      if (error != 0) return error;
      rdma_ucm_event_resp event{};
      std::memcpy(&event, reply_.output, std::min<size_t>(sizeof event, reply_.output_bytes));
      note_event(event.uid);
      return respond();
    }
  }

  int removal() {
    rdma_ucm_event_resp event{};
    uint32_t id = 0;
    uint64_t uid = 0;
    if (!next_removed(inode_of(fd_), id, uid)) return ENODEV;
    event.id = id;
    event.uid = uid;
    event.event = kDeviceRemoval;
    return respond(&event, sizeof event);
  }

  int destroy() {
    const int error = ask();
    if (error != 0 && error != ENODEV) return error;
    const uint32_t events = forget_id(input_as<rdma_ucm_destroy_id>().id);
    if (error == 0) {
      take_bytes(fd_, reply_.withdrawn_events);
      return respond();
    }
    const rdma_ucm_destroy_id_resp response{events};
    return respond(&response, sizeof response);
  }

  int migrate() {
    const auto input = input_as<rdma_ucm_migrate_id>();
    const int source = static_cast<int>(input.fd);
    if (!is_cm_channel(source)) return EINVAL;
    protocol::CmIdentifyRequest identify{};
    protocol::CmHelloReply identity{};
    if (const int error = exchange(source, identify, sizeof identify, identity); error != 0) {
      return error;
    }
    request_.other = identity.secret;
    if (const int error = ask(); error != 0) return error;
    note_migrated(inode_of(fd_), input.id);
    take_bytes(source, reply_.withdrawn_events);
    return respond();
  }

  int set_option() {
    const auto input = input_as<rdma_ucm_set_option>();
    const size_t room = protocol::kCmBytesMax - request_.input_bytes;
    if (request_.input_bytes != sizeof input || input.optlen > room) return EINVAL;
    std::memcpy(request_.input + sizeof input, reinterpret_cast<const void*>(input.optval),
                input.optlen);
    request_.input_bytes += input.optlen;
    return ask();
  }

  int fd_;
  rdma_ucm_cmd_hdr header_;
  protocol::CmCommandRequest request_{};
  protocol::CmCommandReply reply_{};
};

int try_open(int flags, base::UniqueFd& out) {
  sockaddr_un address;
  if (!socket_address(address)) return ENODEV;
  const int type = SOCK_SEQPACKET | ((flags & O_CLOEXEC) != 0 ? SOCK_CLOEXEC : 0);
  base::UniqueFd socket(::socket(AF_UNIX, type, 0));
  if (!socket.valid()) return errno;
  while (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EACCES || errno == EPERM) return EACCES;
    if (errno != EINTR) return ENODEV;
  }
  protocol::CmHelloRequest hello{};
  hello.magic = protocol::kMagic;
  hello.protocol_version = protocol::kProtocolVersion;
  protocol::CmHelloReply reply{};
  if (const int error = exchange(socket.get(), hello, sizeof hello, reply); error != 0) {
    return error;
  }
  if ((flags & O_NONBLOCK) != 0) ::fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  out = std::move(socket);
  return 0;
}

}  // namespace

int open_cm_channel(int flags) {
  base::UniqueFd fd;
  const int error = try_open(flags, fd);
  if (error == 0) return fd.release();
  errno = error;
  return -1;
}

bool is_cm_channel(int fd) {
  if (!active()) return false;
  const int saved_errno = errno;
  sockaddr_un peer{};
  socklen_t length = sizeof peer - 1;  // leaves a zero at the end
  // By the last component: the engine may have bound its socket by another path to the same place.
  bool is = ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0 &&
            peer.sun_family == AF_UNIX;
  const char* const name = is ? std::strrchr(peer.sun_path, '/') : nullptr;
  is = name != nullptr && protocol::kCmSocketName == name + 1;
  errno = saved_errno;
  return is;
}

bool cm_write(int fd, const void* buffer, size_t length, ssize_t& result) {
  rdma_ucm_cmd_hdr header;
  if (length < sizeof header || buffer == nullptr) return false;
  std::memcpy(&header, buffer, sizeof header);
  if (header.cmd > RDMA_USER_CM_CMD_JOIN_MCAST || header.in != length - sizeof header) {
    return false;
  }
  if (!is_cm_channel(fd)) return false;
  const int saved_errno = errno;
  Command command(fd, header, static_cast<const char*>(buffer) + sizeof header);
  const int error = command.perform();
  result = error == 0 ? static_cast<ssize_t>(length) : -1;
  errno = error == 0 ? saved_errno : error;
  return true;
}

}  // namespace flexins::preload

// A channel says that it is the character device that it stands for: libraries check.

namespace {

int as_device(int result, int fd, void* out) {
  auto* const status = static_cast<struct stat*>(out);
  if (result != 0 || !S_ISSOCK(status->st_mode) || !flexins::preload::is_cm_channel(fd)) {
    return result;
  }
  status->st_mode = S_IFCHR | 0666;
  status->st_rdev = makedev(1, 3);  // sysfs_tree.h
  return result;
}

}  // namespace

FLEXINS_WRAPPER(int, fstat, (int fd, void* out)) {
  return as_device(FLEXINS_NEXT(fstat)(fd, out), fd, out);
}

// On 64-bit machines the larger kinds are the same.
FLEXINS_WRAPPER(int, fstat64, (int fd, void* out)) {
  return as_device(FLEXINS_NEXT(fstat64)(fd, out), fd, out);
}

FLEXINS_WRAPPER(int, __fxstat, (int version, int fd, void* out)) {
  return as_device(FLEXINS_NEXT(__fxstat)(version, fd, out), fd, out);
}

FLEXINS_WRAPPER(int, __fxstat64, (int version, int fd, void* out)) {
  return as_device(FLEXINS_NEXT(__fxstat64)(version, fd, out), fd, out);
}
