#pragma once

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "port/fault_port.h"

namespace flexins::daemon {

/// Fault settings as the admin socket has them: "loss", "duplicate", "reorder", "corrupt" (shares
/// of 1), "delay_us" (every packet is held for so long), "seed".
[[nodiscard]] nlohmann::json faults_to_json(const port::FaultConfig& config);

/// `set` on top of `config`; keys that are missing stay. Errors: EINVAL naming the key.
base::Result<port::FaultConfig> apply_faults(port::FaultConfig config, const nlohmann::json& set);

}  // namespace flexins::daemon
