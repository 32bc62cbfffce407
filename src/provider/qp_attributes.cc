#include "provider/qp_attributes.h"

#include <errno.h>

#include "provider/address.h"

namespace flexins::provider {
int to_engine(const ibv_qp_attr& from, uint32_t mask, base::QpAttributes& to) {
  constexpr uint32_t kMissing = IBV_QP_CAP | IBV_QP_ALT_PATH | IBV_QP_PATH_MIG_STATE;
  if ((mask & kMissing) != 0) return EOPNOTSUPP;
  if ((mask & IBV_QP_STATE) != 0 && from.qp_state > IBV_QPS_ERR) return EINVAL;
  if ((mask & IBV_QP_CUR_STATE) != 0 && from.cur_qp_state > IBV_QPS_ERR) return EINVAL;
  to = base::QpAttributes{};
  if ((mask & IBV_QP_STATE) != 0) to.state = static_cast<base::QpState>(from.qp_state);
  if ((mask & IBV_QP_CUR_STATE) != 0) {
    to.current_state = static_cast<base::QpState>(from.cur_qp_state);
  }
  if ((mask & IBV_QP_AV) != 0) {
    // Ethernet knows no addresses but GIDs.
    if (from.ah_attr.is_global == 0) return EINVAL;
    copy_address(from.ah_attr, to.address);
  }
  // The rest is only looked at where the mask says so.
  to.path_mtu = static_cast<uint8_t>(from.path_mtu);
  to.port_number = from.port_num;
  to.access_flags = from.qp_access_flags;
  to.destination_qpn = from.dest_qp_num;
  to.rq_psn = from.rq_psn;
  to.sq_psn = from.sq_psn;
  to.qkey = from.qkey;
  to.pkey_index = from.pkey_index;
  to.max_rd_atomic = from.max_rd_atomic;
  to.max_dest_rd_atomic = from.max_dest_rd_atomic;
  to.min_rnr_timer = from.min_rnr_timer;
  to.timeout = from.timeout;
  to.retry_count = from.retry_cnt;
  to.rnr_retry = from.rnr_retry;
  return 0;
}

void from_engine(const base::QpAttributes& from, ibv_qp_attr& to) {
  to = ibv_qp_attr{};
  to.qp_state = static_cast<ibv_qp_state>(from.state);
  to.cur_qp_state = static_cast<ibv_qp_state>(from.state);
  to.path_mtu = static_cast<ibv_mtu>(from.path_mtu);
  to.path_mig_state = IBV_MIG_MIGRATED;
  to.port_num = from.port_number;
  to.qp_access_flags = from.access_flags;
  to.dest_qp_num = from.destination_qpn;
  to.rq_psn = from.rq_psn;
  to.sq_psn = from.sq_psn;
  to.qkey = from.qkey;
  to.pkey_index = from.pkey_index;
  to.max_rd_atomic = from.max_rd_atomic;
  to.max_dest_rd_atomic = from.max_dest_rd_atomic;
  to.min_rnr_timer = from.min_rnr_timer;
  to.timeout = from.timeout;
  to.retry_cnt = from.retry_count;
  to.rnr_retry = from.rnr_retry;
  to.sq_draining = from.sq_draining;
  copy_address(from.address, to.ah_attr);
}

}  // namespace flexins::provider
