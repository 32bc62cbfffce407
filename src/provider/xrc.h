#pragma once

#include "provider/abi.h"
#include "provider/context.h"

/// Domains of extended reliable connections.

namespace flexins::provider {

struct Xrcd {
  ibv_xrcd face{};  ///< first: libibverbs' pointer is ours
  uint32_t handle = 0;

  static Xrcd& of(ibv_xrcd* face) { return *reinterpret_cast<Xrcd*>(face); }
};

ibv_xrcd* open_xrcd(ibv_context* context, ibv_xrcd_init_attr* attributes);
int close_xrcd(ibv_xrcd* xrcd);

}  // namespace flexins::provider
