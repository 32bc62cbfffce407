#include "provider/memory_window.h"

#include <errno.h>

#include <memory>

#include "protocol/messages_mw.h"
#include "provider/context.h"
#include "provider/guard.h"
#include "provider/qp.h"

namespace flexins::provider {

ibv_mw* allocate_window(ibv_pd* pd, ibv_mw_type type) {
  return null_on_error([&]() -> base::Result<ibv_mw*> {
    if (type != IBV_MW_TYPE_1 && type != IBV_MW_TYPE_2) return base::Error{EINVAL, ""};
    auto mw = std::make_unique<ibv_mw>();
    protocol::AllocateMwRequest request{};
    protocol::AllocateMwReply reply{};
    request.pd = pd->handle;
    request.type = static_cast<uint8_t>(type);
    if (const int error = Context::of(pd->context).call(request, reply); error != 0) {
      return base::Error{error, ""};
    }
    mw->context = pd->context;
    mw->pd = pd;
    mw->rkey = mw->handle = reply.key;
    mw->type = type;
    return mw.release();
  });
}

int bind_window(ibv_qp* qp, ibv_mw* mw, ibv_mw_bind* bind) {
  ibv_send_wr wr{};
  wr.wr_id = bind->wr_id;
  wr.opcode = IBV_WR_BIND_MW;
  wr.send_flags = bind->send_flags;
  wr.bind_mw.mw = mw;
  wr.bind_mw.rkey = ibv_inc_rkey(mw->rkey);
  wr.bind_mw.bind_info = bind->bind_info;
  ibv_send_wr* bad = nullptr;
  return post_send(qp, &wr, &bad);
}

int free_window(ibv_mw* mw) {
  return errno_on_error([&] {
    protocol::FreeMwRequest request{};
    request.key = mw->handle;
    if (const int error = Context::of(mw->context).call_to_free(request); error != 0) return error;
    delete mw;
    return 0;
  });
}

}  // namespace flexins::provider
