#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/verbs_types.h"

namespace flexins::transport {

/// Whether ibv_modify_qp may take a QP of `type` from `from` to `to` with this attribute mask
/// (IBTA 10.3 and table 91, as Linux enforces it): every required attribute is there and none
/// beyond the optional ones. kQpState itself counts neither way.
[[nodiscard]] bool transition_allowed(base::QpType type, base::QpState from, base::QpState to,
                                      uint32_t mask) noexcept;

/// Checks the values of the attributes that `mask` names. Errors: EINVAL.
[[nodiscard]] base::Result<void> check_values(const base::QpAttributes& attributes, uint32_t mask);

/// Copies the attributes that `mask` names (the state excepted) from `from` to `to`.
void merge_attributes(const base::QpAttributes& from, uint32_t mask, base::QpAttributes& to);

}  // namespace flexins::transport
