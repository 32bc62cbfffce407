#pragma once

#include <infiniband/verbs.h>

#include "base/flow.h"

namespace flexins::provider {

/// Reads a program's flow description. 0; EINVAL where it contradicts itself or is cut short;
/// EOPNOTSUPP for what rules here cannot say (tunnels, VLANs, IPv4 flags, actions but counting).
/// `counters`: what its frames are counted in; null: none.
int to_rule(const ibv_flow_attr& attributes, base::FlowRule& rule, ibv_counters*& counters);

ibv_flow* create_flow(ibv_qp* qp, ibv_flow_attr* attributes);
int destroy_flow(ibv_flow* flow);

}  // namespace flexins::provider
