#include <sys/stat.h>

#include <cerrno>

#include "daemon/session.h"
#include "daemon/session_reply.h"

/// XRC domains, and targets that are shared through them.

namespace flexins::daemon {

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
    file = std::move(fds[0]);
    struct stat facts {};
    if (::fstat(file.get(), &facts) != 0) return base::Error{errno, "file of an XRC domain"};
    open.file = engine::XrcdFile{facts.st_dev, facts.st_ino};
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
  return done();
}

}  // namespace flexins::daemon
