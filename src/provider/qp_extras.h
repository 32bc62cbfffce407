#pragma once

#include "provider/abi.h"

/// What can be asked and said of a QP beyond its attributes.

namespace flexins::provider {

struct Qp;

/// Our OUI is no manufacturer's, and there is nothing to agree on: options are 0.
int query_ece(ibv_qp* qp, ibv_ece* ece);
/// EINVAL for options, whoever's they are.
int set_ece(ibv_qp* qp, ibv_ece* ece);
/// 1: the payload is placed in increasing order of addresses (docs/architecture.md).
int query_data_in_order(ibv_qp* qp, ibv_wr_opcode opcode, uint32_t flags);
int modify_rate_limit(ibv_qp* qp, ibv_qp_rate_limit_attr* attributes);

/// For ibv_modify_qp: is IBV_QP_RATE_LIMIT possible in `state` with `rate_kbps`? 0 or EINVAL.
[[nodiscard]] int check_rate(ibv_qp_state state, uint32_t rate_kbps);
int set_rate(Qp& qp, uint32_t rate_kbps, uint32_t burst_bytes);

}  // namespace flexins::provider
