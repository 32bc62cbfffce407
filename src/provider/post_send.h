#pragma once

#include <infiniband/verbs.h>

#include <cstdint>

#include "provider/qp.h"

namespace flexins::provider {

/// What both ways of posting have in common.

/// 0 when work requests may be posted to the send queue now, else EINVAL or EIO.
int check_may_send(const Qp& qp);
/// Is this an opcode that a QP of this type takes?
bool known_opcode(base::QpType type, ibv_wr_opcode opcode);
/// The second slot of a bind.
pipe::BindOperands bind_operands(const ibv_mw_bind_info& info);
/// Under qp.ring->lock: are `count` further work requests within the queue's limit?
bool send_queue_has_room(const Qp& qp, uint32_t count);
/// Under qp.ring->lock: remembers a published work request.
void remember_send(Qp& qp, uint64_t wr_id, base::WrOpcode opcode);

}  // namespace flexins::provider
