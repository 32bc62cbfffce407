#include "provider/driver.h"

#include <errno.h>

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "provider/address.h"
#include "provider/context.h"
#include "provider/counters.h"
#include "provider/cq.h"
#include "provider/device_memory.h"
#include "provider/flow.h"
#include "provider/guard.h"
#include "provider/log.h"
#include "provider/memory.h"
#include "provider/memory_window.h"
#include "provider/pd.h"
#include "provider/qp.h"
#include "provider/qp_extras.h"
#include "provider/query.h"
#include "provider/registry.h"
#include "provider/srq.h"
#include "provider/wq.h"
#include "provider/xrc.h"

// The face to libibverbs: which devices are ours, and what answers which verb.

namespace flexins::provider {
namespace {

void free_context(ibv_context* face) {
  auto* verbs = reinterpret_cast<std::byte*>(face) - offsetof(verbs_context, context);
  auto* memory = reinterpret_cast<ContextFace*>(verbs - offsetof(ContextFace, verbs));
  delete memory->context;
  // Closes cmd_fd and async_fd, too.
  verbs_uninit_context(&memory->verbs);
  std::free(memory);
}

/// Events are counted where libibverbs hands them out, so that destroying an object can wait until
/// the program has acknowledged them.
void on_async_event(ibv_context*, ibv_async_event* event) {
  switch (event->event_type) {
    case IBV_EVENT_CQ_ERR:
      Cq::of(event->element.cq).async_events_reported.fetch_add(1, std::memory_order_acq_rel);
      break;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      Qp::of(event->element.qp).async_events_reported.fetch_add(1, std::memory_order_acq_rel);
      break;
    case IBV_EVENT_SRQ_ERR:
    case IBV_EVENT_SRQ_LIMIT_REACHED:
      Srq::of(event->element.srq).async_events_reported.fetch_add(1, std::memory_order_acq_rel);
      break;
    case IBV_EVENT_WQ_FATAL:
      Wq::of(event->element.wq).half.async_events_reported.fetch_add(1, std::memory_order_acq_rel);
      break;
    default: break;
  }
}

verbs_context_ops make_ops() {
  verbs_context_ops ops{};
  ops.advise_mr = advise_mr;
  ops.alloc_dm = allocate_dm;
  ops.alloc_mw = allocate_window;
  ops.alloc_null_mr = allocate_null_mr;
  ops.alloc_parent_domain = allocate_parent_domain;
  ops.alloc_pd = allocate_pd;
  ops.alloc_td = allocate_td;
  ops.async_event = on_async_event;
  ops.attach_counters_point_flow = attach_counters;
  ops.attach_mcast = attach_multicast;
  ops.bind_mw = bind_window;
  ops.close_xrcd = close_xrcd;
  ops.cq_event = on_completion_event;
  ops.create_ah = create_ah;
  ops.create_counters = create_counters;
  ops.create_cq = create_cq;
  ops.create_cq_ex = create_cq_ex;
  ops.create_flow = create_flow;
  ops.create_qp = create_qp;
  ops.create_qp_ex = create_qp_ex;
  ops.create_rwq_ind_table = create_rwq_table;
  ops.create_srq = create_srq;
  ops.create_wq = create_wq;
  ops.create_srq_ex = create_srq_ex;
  ops.dealloc_mw = free_window;
  ops.dealloc_pd = free_pd;
  ops.dealloc_td = free_td;
  ops.dereg_mr = deregister_mr;
  ops.destroy_ah = destroy_ah;
  ops.destroy_counters = destroy_counters;
  ops.destroy_cq = destroy_cq;
  ops.destroy_flow = destroy_flow;
  ops.destroy_qp = destroy_qp;
  ops.destroy_rwq_ind_table = destroy_rwq_table;
  ops.destroy_srq = destroy_srq;
  ops.destroy_wq = destroy_wq;
  ops.detach_mcast = detach_multicast;
  ops.free_context = free_context;
  ops.free_dm = free_dm;
  ops.get_srq_num = get_srq_number;
  ops.import_dm = import_dm;
  ops.import_mr = import_mr;
  ops.import_pd = import_pd;
  ops.modify_cq = modify_cq;
  ops.modify_qp = modify_qp;
  ops.modify_qp_rate_limit = modify_rate_limit;
  ops.modify_srq = modify_srq;
  ops.modify_wq = modify_wq;
  ops.open_qp = open_qp;
  ops.open_xrcd = open_xrcd;
  ops.poll_cq = poll_cq;
  ops.post_recv = post_receive;
  ops.post_send = post_send;
  ops.post_srq_recv = post_srq_receive;
  ops.query_device_ex = query_device;
  ops.query_ece = query_ece;
  ops.query_port = query_port;
  ops.query_qp = query_qp;
  ops.query_qp_data_in_order = query_data_in_order;
  ops.query_rt_values = query_rt_values;
  ops.query_srq = query_srq;
  ops.read_counters = read_counters;
  ops.reg_dm_mr = register_dm_mr;
  ops.reg_mr = register_mr;
  ops.req_notify_cq = request_notify_cq;
  ops.rereg_mr = reregister_mr;
  ops.resize_cq = resize_cq;
  ops.set_ece = set_ece;
  ops.unimport_dm = unimport_dm;
  ops.unimport_mr = unimport_mr;
  ops.unimport_pd = unimport_pd;
  return ops;
}

/// Connects `memory` to the engine; `imported_from`: the context that it is to share objects with,
/// or null. 0 or an errno value, explained on stderr.
int start_context(ContextFace& memory, const Context* imported_from) {
  return errno_on_error([&] {
    auto context = Context::open(&memory.verbs.context);
    if (!context) {
      complain(context.error().message);
      return context.error().code;
    }
    memory.context = std::move(context).value().release();
    if (imported_from != nullptr) memory.context->import_from(*imported_from);
    return 0;
  });
}

verbs_context* make_context(ibv_device* device, int cmd_fd, const Context* imported_from) {
  constexpr uint32_t kUnknownDriver = 0;
  // libibverbs wants the offset as a pointer.
  auto* offset = reinterpret_cast<verbs_context*>(offsetof(ContextFace, verbs));
  auto* memory = static_cast<ContextFace*>(
      _verbs_init_and_alloc_context(device, cmd_fd, sizeof(ContextFace), offset, kUnknownDriver));
  if (memory == nullptr) return nullptr;
  if (const int error = start_context(*memory, imported_from); error != 0) {
    verbs_uninit_context(&memory->verbs);
    std::free(memory);
    errno = error;
    return nullptr;
  }
  static const verbs_context_ops ops = make_ops();
  verbs_set_ops(&memory->verbs, &ops);
  // Set before libibverbs asks the kernel for one.
  memory->verbs.context.async_fd = memory->context->async_fd();
  memory->verbs.context.num_comp_vectors = kCompletionVectors;
  return &memory->verbs;
}

verbs_context* allocate_context(ibv_device* device, int cmd_fd, void*) {
  return make_context(device, cmd_fd, nullptr);
}

/// ibv_import_device: `cmd_fd` is a duplicate of an open context's. Of another process's context it
/// says nothing, as all of them are the same device node.
verbs_context* import_context(ibv_device* device, int cmd_fd) {
  const Context* original = context_with_descriptor(cmd_fd);
  if (original == nullptr) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  return make_context(device, cmd_fd, original);
}

verbs_device* allocate_device(verbs_sysfs_dev*) {
  return static_cast<verbs_device*>(std::calloc(1, sizeof(verbs_device)));
}
void free_device(verbs_device* device) { std::free(device); }

constexpr uint8_t kMatchModalias = 2;
constexpr verbs_match_ent kMatches[] = {
    {nullptr, {"rdma_device:*Nflexins*"}, 0, 0, kMatchModalias},
    {nullptr, {nullptr}, 0, 0, 0},
};

constexpr verbs_device_ops kDeviceOps = {
    .name = "flexins",
    // Nothing that the device's own kernel ABI would say concerns us: there is no kernel driver.
    .match_min_abi_version = 0,
    .match_max_abi_version = UINT32_MAX,
    .match_table = kMatches,
    .static_providers = nullptr,
    .match_device = nullptr,
    .alloc_context = allocate_context,
    .import_context = import_context,
    .alloc_device = allocate_device,
    .uninit_device = free_device,
};

}  // namespace

const verbs_device_ops& device_ops() { return kDeviceOps; }

}  // namespace flexins::provider
