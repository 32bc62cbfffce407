#pragma once

#include <infiniband/verbs.h>

#include "base/verbs_types.h"

namespace flexins::provider {

/// What the engine is told of an address, and back.
void copy_address(const ibv_ah_attr& from, base::AddressVector& to);
void copy_address(const base::AddressVector& from, ibv_ah_attr& to);

ibv_ah* create_ah(ibv_pd* pd, ibv_ah_attr* attributes);
int destroy_ah(ibv_ah* ah);
/// Ethernet has no LIDs: that is ignored.
int attach_multicast(ibv_qp* qp, const ibv_gid* group, uint16_t lid);
int detach_multicast(ibv_qp* qp, const ibv_gid* group, uint16_t lid);

}  // namespace flexins::provider
