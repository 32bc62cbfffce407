#pragma once

#include <vector>

#include "protocol/messages.h"
#include "provider/abi.h"
#include "window/client.h"

namespace flexins::provider {

ibv_pd* allocate_pd(ibv_context* context);
int free_pd(ibv_pd* pd);
ibv_mr* register_mr(ibv_pd* pd, void* address, size_t length, uint64_t iova, int access);
int deregister_mr(verbs_mr* mr);

/// Writes what one message can carry of `segments` into `request`: the longest, if there are too
/// many, or too many objects behind them. Returns the descriptors to send along.
std::vector<int> pack_segments(std::vector<window::ClientSegment> segments,
                               protocol::RegisterMrRequest& request);

/// 0, EINVAL or EOPNOTSUPP for these ibv_access_flags.
[[nodiscard]] int check_access(int access);

}  // namespace flexins::provider
