#include "provider/qp_extras.h"

#include <errno.h>

#include "protocol/messages_qp.h"
#include "provider/guard.h"
#include "provider/qp.h"
#include "provider/query.h"

namespace flexins::provider {

int query_ece(ibv_qp* face, ibv_ece* ece) {
  if (!Qp::of(face).context->live()) return EIO;
  *ece = ibv_ece{kVendorId, 0, 0};
  return 0;
}

int set_ece(ibv_qp* face, ibv_ece* ece) {
  if (!Qp::of(face).context->live()) return EIO;
  return ece->comp_mask != 0 || ece->options != 0 ? EINVAL : 0;
}

int query_data_in_order(ibv_qp*, ibv_wr_opcode opcode, uint32_t flags) {
  if (flags != 0) return 0;
  switch (opcode) {
    case IBV_WR_SEND:
    case IBV_WR_SEND_WITH_IMM:
    case IBV_WR_SEND_WITH_INV:
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
    case IBV_WR_RDMA_READ: return 1;
    default: return 0;
  }
}

int check_rate(ibv_qp_state state, uint32_t rate_kbps) {
  if (state != IBV_QPS_RTS) return EINVAL;
  const bool in_range =
      rate_kbps >= protocol::kLeastRateKbps && rate_kbps <= protocol::kMostRateKbps;
  return rate_kbps == 0 || in_range ? 0 : EINVAL;
}

int set_rate(Qp& qp, uint32_t rate_kbps, uint32_t burst_bytes) {
  protocol::SetQpRateRequest request{};
  request.qpn = qp.qpn;
  request.rate_kbps = rate_kbps;
  request.burst_bytes = burst_bytes;
  protocol::EmptyReply reply{};
  const int error = qp.context->call(request, reply);
  if (error == 0) qp.rate_limit_kbps = rate_kbps;
  return error;
}

int modify_rate_limit(ibv_qp* face, ibv_qp_rate_limit_attr* attributes) {
  return errno_on_error([&] {
    if (attributes->comp_mask != 0) return EINVAL;
    if (const int error = check_rate(face->state, attributes->rate_limit); error != 0) return error;
    return set_rate(Qp::of(face), attributes->rate_limit, attributes->max_burst_sz);
  });
}

}  // namespace flexins::provider
