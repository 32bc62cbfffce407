#pragma once

#include <cstddef>

#include "provider/abi.h"

namespace flexins::provider {

/// A locally administered OUI ("\2FN"): no manufacturer's.
inline constexpr uint32_t kVendorId = 0x02464e;

int query_device(ibv_context* context, const ibv_query_device_ex_input* input,
                 ibv_device_attr_ex* attributes, size_t bytes);
int query_rt_values(ibv_context* context, ibv_values_ex* values);
int query_port(ibv_context* context, uint8_t port, ibv_port_attr* attributes);

}  // namespace flexins::provider
