#pragma once

#include "provider/abi.h"

namespace flexins::provider {

/// What libibverbs is told about this provider.
const verbs_device_ops& device_ops();

}  // namespace flexins::provider
