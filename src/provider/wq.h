#pragma once

#include "provider/qp.h"

/// Receive work queues, tables of them, and raw packet QPs that spread frames over a table (RSS).

namespace flexins::provider {

/// To the engine it is the receiving half of a raw packet QP, and so it is here.
struct Wq {
  ibv_wq face{};  ///< first: libibverbs' pointer is ours
  Qp half;

  static Wq& of(ibv_wq* face) { return *reinterpret_cast<Wq*>(face); }
};

ibv_wq* create_wq(ibv_context* context, ibv_wq_init_attr* attributes);
int modify_wq(ibv_wq* wq, ibv_wq_attr* attributes);
int destroy_wq(ibv_wq* wq);
ibv_rwq_ind_table* create_rwq_table(ibv_context* context, ibv_rwq_ind_table_init_attr* attributes);
int destroy_rwq_table(ibv_rwq_ind_table* table);
/// ibv_create_qp_ex with a table and a hash. Null with errno: EOPNOTSUPP for other QP types, hash
/// functions, fields and flags; EINVAL for what contradicts itself.
ibv_qp* create_spreading_qp(ibv_qp_init_attr_ex& attributes);

}  // namespace flexins::provider
