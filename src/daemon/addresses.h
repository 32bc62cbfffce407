#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "protocol/messages.h"

namespace flexins::daemon {

/// The addresses that an engine serves, each a GID. `wanted` empty: every address of an interface
/// that is up (IPv4, then IPv6, 127.0.0.1 last) whose UDP port 4791 is free; those taken are left
/// out with a warning. Otherwise exactly `wanted`. Errors name the address and the fix: EINVAL,
/// EADDRNOTAVAIL, EADDRINUSE (all are taken), E2BIG.
base::Result<std::vector<engine::LocalAddress>> choose_addresses(
    const std::vector<std::string>& wanted);

/// The one port of the device: its GIDs, and the path MTU that each of its addresses carries.
protocol::PortState port_state(const std::vector<engine::LocalAddress>& addresses);

}  // namespace flexins::daemon
