#include "provider/xrc.h"

#include <errno.h>
#include <fcntl.h>

#include <memory>

#include "protocol/messages_xrc.h"
#include "provider/guard.h"

namespace flexins::provider {
namespace {

base::Result<ibv_xrcd*> open(ibv_context* face, const ibv_xrcd_init_attr& wanted) {
  constexpr uint32_t kNeeded = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
  if (wanted.comp_mask >= IBV_XRCD_INIT_ATTR_RESERVED) return base::Error{EOPNOTSUPP, ""};
  if (wanted.comp_mask != kNeeded) return base::Error{EINVAL, ""};
  const bool is_shared = wanted.fd != -1;
  if (is_shared && ::fcntl(wanted.fd, F_GETFD) < 0) return base::Error{EBADF, ""};
  auto xrcd = std::make_unique<Xrcd>();
  protocol::OpenXrcdRequest request{};
  request.create = (wanted.oflags & O_CREAT) != 0 ? 1 : 0;
  request.exclusive = (wanted.oflags & O_EXCL) != 0 ? 1 : 0;
  protocol::OpenXrcdReply reply{};
  const std::span<const int> file(&wanted.fd, is_shared ? 1 : 0);
  if (const int error = Context::of(face).call(request, reply, file); error != 0) {
    return base::Error{error, ""};
  }
  xrcd->face.context = face;
  xrcd->handle = reply.xrcd;
  return &xrcd.release()->face;
}

}  // namespace

ibv_xrcd* open_xrcd(ibv_context* context, ibv_xrcd_init_attr* attributes) {
  return null_on_error([&] { return open(context, *attributes); });
}

int close_xrcd(ibv_xrcd* face) {
  return errno_on_error([&] {
    Xrcd& xrcd = Xrcd::of(face);
    protocol::CloseXrcdRequest request{};
    request.xrcd = xrcd.handle;
    if (const int error = Context::of(face->context).call_to_free(request); error != 0) {
      return error;
    }
    delete &xrcd;
    return 0;
  });
}

}  // namespace flexins::provider
