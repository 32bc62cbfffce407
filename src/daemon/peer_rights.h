#pragma once

#include "daemon/tenants.h"

namespace flexins::daemon {

/// As the kernel would ask: effective CAP_NET_RAW. Of a process that cannot be looked at, only root
/// has it.
[[nodiscard]] bool may_use_raw_frames(const PeerCredentials& peer);

}  // namespace flexins::daemon
