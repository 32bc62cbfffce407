#include <errno.h>

#include <cstddef>
#include <cstring>
#include <memory>

#include "base/flow.h"
#include "protocol/messages_spread.h"
#include "provider/guard.h"
#include "provider/wq.h"

// Tables of receive work queues and raw packet QPs over them.

namespace flexins::provider {
namespace {

int check_request(const ibv_qp_init_attr_ex& wanted) {
  constexpr uint32_t kNeeded =
      IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_IND_TABLE | IBV_QP_INIT_ATTR_RX_HASH;
  constexpr uint32_t kKnown = kNeeded | IBV_QP_INIT_ATTR_CREATE_FLAGS;
  if ((wanted.comp_mask & ~kKnown) != 0) return EOPNOTSUPP;
  if ((wanted.comp_mask & kNeeded) != kNeeded) return EINVAL;
  if (wanted.pd == nullptr || wanted.rwq_ind_tbl == nullptr || wanted.srq != nullptr) return EINVAL;
  if (wanted.qp_type != IBV_QPT_RAW_PACKET) return EOPNOTSUPP;
  const bool has_flags = (wanted.comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) != 0;
  return has_flags && wanted.create_flags != 0 ? EOPNOTSUPP : 0;
}

int to_engine(const ibv_rx_hash_conf& wanted, base::ReceiveHash& out) {
  if (wanted.rx_hash_function != IBV_RX_HASH_FUNC_TOEPLITZ) return EOPNOTSUPP;
  if ((wanted.rx_hash_fields_mask & ~uint64_t{base::kHashAllFields}) != 0) return EOPNOTSUPP;
  if (wanted.rx_hash_key_len != out.key.size() || wanted.rx_hash_key == nullptr) return EINVAL;
  std::memcpy(out.key.data(), wanted.rx_hash_key, out.key.size());
  out.fields = static_cast<uint32_t>(wanted.rx_hash_fields_mask);
  return 0;
}

}  // namespace

ibv_rwq_ind_table* create_rwq_table(ibv_context* face, ibv_rwq_ind_table_init_attr* attributes) {
  return null_on_error([&]() -> base::Result<ibv_rwq_ind_table*> {
    protocol::CreateSpreadTableRequest request{};
    constexpr uint32_t kMaxLog = 31;
    if (attributes->comp_mask != 0) return base::Error{EOPNOTSUPP, ""};
    if (attributes->log_ind_tbl_size > kMaxLog ||
        1u << attributes->log_ind_tbl_size > base::Limits::kMaxSpreadTableSize) {
      return base::Error{EINVAL, ""};
    }
    request.queue_count = 1u << attributes->log_ind_tbl_size;
    for (uint32_t i = 0; i < request.queue_count; ++i) {
      if (attributes->ind_tbl[i] == nullptr) return base::Error{EINVAL, ""};
      request.queues[i] = attributes->ind_tbl[i]->wq_num;
    }
    auto table = std::make_unique<ibv_rwq_ind_table>();
    protocol::CreateSpreadTableReply reply{};
    const size_t bytes = offsetof(protocol::CreateSpreadTableRequest, queues) +
                         request.queue_count * sizeof request.queues[0];
    const int error = Context::of(face).call(request, reply, {}, nullptr, bytes);
    if (error != 0) return base::Error{error, ""};
    table->context = face;
    table->ind_tbl_handle = table->ind_tbl_num = static_cast<int>(reply.table);
    return table.release();
  });
}

int destroy_rwq_table(ibv_rwq_ind_table* table) {
  return errno_on_error([&] {
    protocol::DestroySpreadTableRequest request{};
    request.table = static_cast<uint32_t>(table->ind_tbl_handle);
    const int error = Context::of(table->context).call_to_free(request);
    if (error == 0) delete table;
    return error;
  });
}

ibv_qp* create_spreading_qp(ibv_qp_init_attr_ex& wanted) {
  return null_on_error([&]() -> base::Result<ibv_qp*> {
    protocol::CreateSpreadingQpRequest request{};
    int error = check_request(wanted);
    if (error == 0) error = to_engine(wanted.rx_hash_conf, request.hash);
    if (error != 0) return base::Error{error, ""};
    auto qp = std::make_unique<Qp>();
    ibv_qp& face = qp->face.qp;
    qp->context = &Context::of(wanted.pd->context);
    qp->type = base::QpType::kRawPacket;
    request.cookie = qp->cookie = reinterpret_cast<uint64_t>(&face);
    request.pd = wanted.pd->handle;
    request.table = static_cast<uint32_t>(wanted.rwq_ind_tbl->ind_tbl_handle);
    protocol::CreateSpreadingQpReply reply{};
    error = qp->context->call(request, reply);
    if (error != 0) return base::Error{error, ""};
    wanted.cap = qp->cap;
    face.context = wanted.pd->context;
    face.qp_context = wanted.qp_context;
    face.pd = wanted.pd;
    face.handle = face.qp_num = qp->qpn = reply.qpn;
    face.state = IBV_QPS_RESET;
    face.qp_type = wanted.qp_type;
    ::pthread_mutex_init(&face.mutex, nullptr);
    ::pthread_cond_init(&face.cond, nullptr);
    return &qp.release()->face.qp;
  });
}

}  // namespace flexins::provider
