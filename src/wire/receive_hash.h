#pragma once

#include <cstdint>

#include "base/flow.h"

namespace flexins::wire {

/// The Toeplitz hash by which a frame finds its receive queue: over source address, destination
/// address, source port and destination port, in that order, as far as `hash` names them and the
/// frame has them. A frame with none of the fields hashes to 0.
[[nodiscard]] uint32_t receive_hash(const base::ReceiveHash& hash,
                                    const base::FlowKey& key) noexcept;

}  // namespace flexins::wire
