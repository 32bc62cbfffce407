#pragma once

#include <infiniband/verbs.h>

#include "base/verbs_types.h"

namespace flexins::provider {

/// Attributes as the session has them, of those that `mask` names. EOPNOTSUPP for what this device
/// has not (alternate paths, resizing); EINVAL for what cannot be said.
[[nodiscard]] int to_engine(const ibv_qp_attr& from, uint32_t mask, base::QpAttributes& to);

/// All attributes but the capabilities.
void from_engine(const base::QpAttributes& from, ibv_qp_attr& to);

}  // namespace flexins::provider
