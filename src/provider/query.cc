#include "provider/query.h"

#include <errno.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <ctime>

#include "base/byte_order.h"
#include "base/flow.h"
#include "base/verbs_types.h"
#include "protocol/messages_memory.h"
#include "protocol/messages_qp.h"
#include "provider/context.h"
#include "provider/guard.h"

namespace flexins::provider {
namespace {

using base::Limits;

constexpr const char* kFirmwareVersion = "0.1.0";
constexpr uint32_t kVendorPartId = 1;
/// 64 TiB: what user space of x86-64 can address, and some more than anybody registers.
constexpr uint64_t kMaxMrBytes = 1ull << 46;
/// Width 4x and speed 25 Gb/s per lane stand for "as fast as the host": a software device has no
/// signalling rate, and programs only print it or scale by it.
constexpr uint8_t kWidth4x = 2;
constexpr uint8_t kSpeedEdr = 32;
/// Completions are stamped in nanoseconds.
constexpr uint64_t kClockKilohertz = 1'000'000;
constexpr uint8_t kPhysicalLinkUp = 5;
constexpr uint8_t kPhysicalDisabled = 3;

ibv_device_attr device_attributes(const Context& context) {
  ibv_device_attr a{};
  std::strncpy(a.fw_ver, kFirmwareVersion, sizeof a.fw_ver - 1);
  a.node_guid = base::swap_to_big(context.node_guid());
  a.sys_image_guid = a.node_guid;
  a.max_mr_size = kMaxMrBytes;
  a.page_size_cap = 4096;
  a.vendor_id = kVendorId;
  a.vendor_part_id = kVendorPartId;
  a.hw_ver = 1;
  a.max_qp = Limits::kMaxQp;
  a.max_qp_wr = static_cast<int>(std::min(Limits::kMaxSendWr, Limits::kMaxReceiveWr));
  a.device_cap_flags = IBV_DEVICE_RC_RNR_NAK_GEN | IBV_DEVICE_SYS_IMAGE_GUID |
                       IBV_DEVICE_SRQ_RESIZE | IBV_DEVICE_MEM_WINDOW |
                       IBV_DEVICE_MEM_WINDOW_TYPE_2B | IBV_DEVICE_XRC;
  a.max_sge = Limits::kMaxSge;
  a.max_sge_rd = Limits::kMaxSge;
  a.max_cq = Limits::kMaxCq;
  a.max_cqe = Limits::kMaxCqe;
  a.max_mr = Limits::kMaxMr;
  a.max_mw = Limits::kMaxMw;
  a.max_pd = Limits::kMaxPd;
  a.max_srq = Limits::kMaxSrq;
  a.max_srq_wr = Limits::kMaxSrqWr;
  a.max_srq_sge = Limits::kMaxSge;
  a.max_ah = Limits::kMaxAh;
  a.max_mcast_grp = Limits::kMaxMulticastGroups;
  a.max_mcast_qp_attach = Limits::kMaxMulticastQps;
  a.max_total_mcast_qp_attach = Limits::kMaxMulticastGroups * Limits::kMaxMulticastQps;
  a.max_qp_rd_atom = Limits::kMaxRdAtomic;
  a.max_res_rd_atom = static_cast<int>(Limits::kMaxRdAtomic * Limits::kMaxQp);
  a.max_qp_init_rd_atom = Limits::kMaxRdAtomic;
  // Not GLOB: through a descriptor window the engine reads and writes, which the program's own
  // processors can come between.
  a.atomic_cap = IBV_ATOMIC_HCA;
  a.max_pkeys = 1;
  a.local_ca_ack_delay = 15;
  a.phys_port_cnt = 1;
  return a;
}

ibv_mtu mtu_code(uint32_t bytes) {
  const uint32_t bounded = std::clamp(bytes, 256u, 4096u);
  return static_cast<ibv_mtu>(std::bit_width(bounded) - 8);
}

}  // namespace

int query_device(ibv_context* face, const ibv_query_device_ex_input* input,
                 ibv_device_attr_ex* attributes, size_t bytes) {
  if (input != nullptr && input->comp_mask != 0) return EINVAL;
  if (bytes < sizeof attributes->orig_attr) return EINVAL;
  Context& context = Context::of(face);
  // What the device can do is the same for a child that has inherited it.
  if (context.state() == ContextState::kDead) return EIO;
  ibv_device_attr_ex all{};
  all.orig_attr = device_attributes(context);
  all.phys_port_cnt_ex = 1;
  all.completion_timestamp_mask = UINT64_MAX;
  all.hca_core_clock = kClockKilohertz;
  all.device_cap_flags_ex = static_cast<uint64_t>(all.orig_attr.device_cap_flags);
  // Regions are windows onto the address space: nothing is pinned, so any operation may fault.
  constexpr uint32_t kOdpDatagram =
      IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV | IBV_ODP_SUPPORT_SRQ_RECV;
  constexpr uint32_t kOdpReliable =
      kOdpDatagram | IBV_ODP_SUPPORT_WRITE | IBV_ODP_SUPPORT_READ | IBV_ODP_SUPPORT_ATOMIC;
  all.odp_caps.general_caps = IBV_ODP_SUPPORT | IBV_ODP_SUPPORT_IMPLICIT;
  all.odp_caps.per_transport_caps.rc_odp_caps = kOdpReliable;
  all.odp_caps.per_transport_caps.ud_odp_caps = kOdpDatagram;
  all.xrc_odp_caps = kOdpReliable;
  all.packet_pacing_caps.qp_rate_limit_min = protocol::kLeastRateKbps;
  all.packet_pacing_caps.qp_rate_limit_max = protocol::kMostRateKbps;
  all.packet_pacing_caps.supported_qpts = 1u << IBV_QPT_RC | 1u << IBV_QPT_UD;
  all.rss_caps.supported_qpts = 1u << IBV_QPT_RAW_PACKET;
  all.rss_caps.max_rwq_indirection_tables = Limits::kMaxSpreadTables;
  all.rss_caps.max_rwq_indirection_table_size = Limits::kMaxSpreadTableSize;
  all.rss_caps.rx_hash_fields_mask = base::kHashAllFields;
  all.rss_caps.rx_hash_function = IBV_RX_HASH_FUNC_TOEPLITZ;
  all.max_wq_type_rq = Limits::kMaxQp;
  all.max_dm_size = protocol::kMaxDeviceMemoryBytes;
  all.cq_mod_caps.max_cq_count = UINT16_MAX;
  all.cq_mod_caps.max_cq_period = UINT16_MAX;
  // Callers of older headers have a shorter struct, those of newer ones a longer one.
  std::memset(static_cast<void*>(attributes), 0, bytes);
  std::memcpy(static_cast<void*>(attributes), &all, std::min(bytes, sizeof all));
  return 0;
}

int query_rt_values(ibv_context* face, ibv_values_ex* values) {
  const uint32_t wanted = values->comp_mask;
  values->comp_mask = 0;
  if (!Context::of(face).live()) return EIO;
  if ((wanted & IBV_VALUES_MASK_RAW_CLOCK) != 0) {
    // Ticks of hca_core_clock in the seconds' place of nothing: one number, as RNICs give it.
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    values->raw_clock.tv_sec = 0;
    values->raw_clock.tv_nsec = static_cast<long>(now.tv_sec * 1'000'000'000L + now.tv_nsec);
    values->comp_mask |= IBV_VALUES_MASK_RAW_CLOCK;
  }
  return 0;
}

int query_port(ibv_context* face, uint8_t port, ibv_port_attr* attributes) {
  return errno_on_error([&] {
    if (port != 1) return EINVAL;
    protocol::QueryPortRequest request{};
    protocol::QueryPortReply reply{};
    if (const int error = Context::of(face).call(request, reply); error != 0) return error;
    ibv_port_attr& a = *attributes;
    a = ibv_port_attr{};
    const bool up = reply.port.active != 0;
    a.state = up ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
    a.max_mtu = mtu_code(reply.port.max_mtu_bytes);
    a.active_mtu = mtu_code(reply.port.active_mtu_bytes);
    a.gid_tbl_len = static_cast<int>(protocol::kMaxGids);
    a.port_cap_flags = IBV_PORT_CM_SUP | IBV_PORT_IP_BASED_GIDS;
    a.max_msg_sz = Limits::kMaxMessageBytes;
    a.pkey_tbl_len = 1;
    a.max_vl_num = 1;
    a.active_width = kWidth4x;
    a.active_speed = kSpeedEdr;
    a.phys_state = up ? kPhysicalLinkUp : kPhysicalDisabled;
    a.link_layer = IBV_LINK_LAYER_ETHERNET;
    return 0;
  });
}

}  // namespace flexins::provider
