#pragma once

#include <cstdint>

#include "provider/qp.h"

namespace flexins::provider {

/// Fills in the extended work request functions (ibv_wr_start and so on) for the operations
/// `send_ops` (enum ibv_qp_create_send_ops_flags). False if some are not ours.
[[nodiscard]] bool enable_extended_sends(Qp& qp, uint64_t send_ops);

}  // namespace flexins::provider
