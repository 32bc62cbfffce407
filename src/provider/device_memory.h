#pragma once

#include "provider/abi.h"

/// Regions without memory of the program's: the null region and device memory.

namespace flexins::provider {

ibv_mr* allocate_null_mr(ibv_pd* pd);
ibv_dm* allocate_dm(ibv_context* context, ibv_alloc_dm_attr* attributes);
int free_dm(ibv_dm* dm);
ibv_mr* register_dm_mr(ibv_pd* pd, ibv_dm* dm, uint64_t offset, size_t length, uint32_t access);
/// `handle`: of device memory of the context that `context` was imported from.
ibv_dm* import_dm(ibv_context* context, uint32_t handle);
void unimport_dm(ibv_dm* dm);

}  // namespace flexins::provider
