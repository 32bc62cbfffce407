#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <string>

#include "daemon/session.h"
#include "daemon/session_reply.h"

/// XRC domains, and targets that are shared through them.

namespace flexins::daemon {

namespace {

/// Which file `fd` is; EBADF where it was opened without any right to the file, EINVAL where it is
/// none that is found by a name.
base::Result<engine::XrcdFile> identify(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0) {
    return base::Error{EBADF, "the file of an XRC domain has to be opened for reading or writing"};
  }
  struct statx facts {};
  // Not one that would ask a file system of the program's own.
  if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &facts) != 0) {
    return base::Error{errno, "file of an XRC domain"};
  }
  if (!S_ISREG(facts.stx_mode) && !S_ISDIR(facts.stx_mode) && !S_ISCHR(facts.stx_mode)) {
    return base::Error{EINVAL, "an XRC domain is named by an ordinary file, folder or device"};
  }
  return engine::XrcdFile{makedev(facts.stx_dev_major, facts.stx_dev_minor), facts.stx_ino};
}

/// Keeps the inode from naming another file, and holds nothing else of it.
base::Result<base::UniqueFd> pin(int fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  base::UniqueFd pinned(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!pinned.valid()) return base::Error{errno, "file of an XRC domain"};
  return pinned;
}

}  // namespace

Session::Answer Session::open_xrcd(std::span<const std::byte> message, Fds fds) {
  const auto request = decode<protocol::OpenXrcdRequest>(message);
  if (!request) return invalid("wrong size for its type");
  if (auto room = check_limit("XRC domains", use_.xrcds, environment_.limits.xrcds_max); !room) {
    return room.error();
  }
  engine::OpenXrcd open;
  open.create = request->create != 0;
  open.exclusive = request->exclusive != 0;
  base::UniqueFd file;
  if (!fds.empty()) {
    const auto identity = identify(fds[0].get());
    if (!identity) return identity.error();
    auto pinned = pin(fds[0].get());
    if (!pinned) return pinned.error();
    file = std::move(pinned).value();
    open.file = *identity;
  }
  auto xrcd = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.open_xrcd(context_, open); });
  if (!xrcd) return xrcd.error();
  count(&TenantUse::xrcds);
  xrcd_files_.emplace(*xrcd, std::move(file));
  protocol::OpenXrcdReply reply{};
  reply.xrcd = xrcd->value;
  return make_reply(reply);
}

Session::Answer Session::close_xrcd(const protocol::CloseXrcdRequest& request) {
  const base::XrcdId xrcd{request.xrcd};
  auto closed = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.close_xrcd(context_, xrcd); });
  if (!closed) return closed.error();
  xrcd_files_.erase(xrcd);
  discount(&TenantUse::xrcds);
  return done();
}

Session::Answer Session::open_qp(const protocol::OpenQpRequest& request) {
  if (auto room = check_limit("QPs", use_.qps, environment_.limits.qps_max); !room) {
    return room.error();
  }
  auto opened = environment_.worker->call([&](engine::Engine& engine) {
    return engine.open_qp(context_, base::XrcdId{request.xrcd}, base::Qpn{request.qpn},
                          request.cookie);
  });
  if (!opened) return opened.error();
  count(&TenantUse::qps);
  return done();
}

Session::Answer Session::close_qp(const protocol::CloseQpRequest& request) {
  auto closed = environment_.worker->call([&](engine::Engine& engine) {
    return engine.close_qp(context_, base::Qpn{request.qpn}, request.cookie);
  });
  if (!closed) return closed.error();
  discount(&TenantUse::qps);
  return destroyed(*closed);
}

}  // namespace flexins::daemon
