#pragma once

#include "provider/abi.h"

namespace flexins::provider {

ibv_mw* allocate_window(ibv_pd* pd, ibv_mw_type type);
/// Binds a window of type 1, or, with length 0, ends what it grants. Gives it another key.
int bind_window(ibv_qp* qp, ibv_mw* mw, ibv_mw_bind* bind);
int free_window(ibv_mw* mw);

}  // namespace flexins::provider
