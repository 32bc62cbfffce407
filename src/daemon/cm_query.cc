#include <algorithm>

#include "base/byte_order.h"
#include "base/verbs_types.h"
#include "daemon/cm_codec.h"

/// What programs ask about their ids: addresses, paths, attributes for their queue pairs.

namespace flexins::daemon {

namespace {

constexpr uint16_t kPkey = 0xffff;
constexpr uint8_t kHopLimit = 64;
/// Rate of a path: 100 Gb/s, as the port says (enum ibv_rate).
constexpr uint8_t kRate = 16;
/// "Exactly" in the selectors of a path record.
constexpr uint8_t kExactly = 2;
/// libibverbs numbers devices by netlink only, which there is none of.
constexpr uint32_t kNoIndex = UINT32_MAX;
/// AF_IB of <rdma/ib.h>.
constexpr uint16_t kFamilyIb = 27;
constexpr uint8_t kFlagsOfPath = 1 | 2 | 8 | 32;  // GMP, primary, outbound, inbound reverse

/// struct sockaddr_ib
struct SockaddrIb {
  uint16_t family;
  uint16_t pkey;
  uint32_t flow;
  uint8_t gid[16];
  uint64_t service_id;
  uint64_t service_mask;
  uint64_t scope;
};
static_assert(sizeof(SockaddrIb) == 48);

SockaddrIb sockaddr_ib(const CmId& id, const CmAddress& address) {
  SockaddrIb out{};
  out.family = kFamilyIb;
  out.pkey = base::swap_to_big(kPkey);
  std::copy(address.ip.bytes.begin(), address.ip.bytes.end(), out.gid);
  out.service_id = base::swap_to_big(uint64_t{id.port_space} << 16 | address.port);
  out.service_mask = base::swap_to_big(~uint64_t{0});
  return out;
}

bool has_route(const CmId& id) {
  return id.state == CmIdState::kRouteResolved || id.state == CmIdState::kConnecting ||
         id.state == CmIdState::kConnected || id.state == CmIdState::kDisconnected;
}

void set_path(ib_user_path_rec& path, const wire::IpAddress& source,
              const wire::IpAddress& destination, const CmId& id, uint8_t mtu) {
  std::copy(destination.bytes.begin(), destination.bytes.end(), path.dgid);
  std::copy(source.bytes.begin(), source.bytes.end(), path.sgid);
  path.pkey = base::swap_to_big(kPkey);
  path.reversible = 1;
  path.mtu = mtu;
  path.mtu_selector = kExactly;
  path.rate = kRate;
  path.rate_selector = kExactly;
  path.packet_life_time_selector = kExactly;
  path.hop_limit = kHopLimit;
  path.traffic_class = id.traffic_class;
}

using Mask = uint32_t;

}  // namespace

CmService::Answer CmService::query_route(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_query>(input);
  if (!command) return cm_too_short();
  auto found = find_id(channel, command->id);
  if (!found) return found.error();
  const CmId& id = **found;
  rdma_ucm_query_route_resp response{};
  response.ibdev_index = kNoIndex;
  write_sockaddr(id.source, &response.src_addr);
  write_sockaddr(id.destination, &response.dst_addr);
  if (!id.gid_index) return answer_with(response);
  response.node_guid = base::swap_to_big(config_.node_guid);
  response.port_num = 1;
  // GIDs are of use before there is a path too.
  set_path(response.ib_route[0], id.source.ip, id.destination.ip, id, mtu_of(id));
  response.ib_route[0].packet_life_time = static_cast<uint8_t>(ack_timeout_of(id) - 1);
  response.num_paths = has_route(id) ? 1 : 0;
  return answer_with(response);
}

CmService::Answer CmService::query(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_query>(input);
  if (!command) return cm_too_short();
  auto found = find_id(channel, command->id);
  if (!found) return found.error();
  switch (command->option) {
    case RDMA_USER_CM_QUERY_ADDR: return query_address(**found, false);
    case RDMA_USER_CM_QUERY_GID: return query_address(**found, true);
    case RDMA_USER_CM_QUERY_PATH: return query_path(**found);
    default: return base::Error{ENOSYS, "no such question"};
  }
}

CmService::Answer CmService::query_address(const CmId& id, bool as_gid) {
  rdma_ucm_query_addr_resp response{};
  response.ibdev_index = kNoIndex;
  if (as_gid) {
    const SockaddrIb source = sockaddr_ib(id, id.source);
    const SockaddrIb destination = sockaddr_ib(id, id.destination);
    std::memcpy(&response.src_addr, &source, sizeof source);
    std::memcpy(&response.dst_addr, &destination, sizeof destination);
    response.src_size = response.dst_size = sizeof source;
  } else {
    response.src_size = static_cast<uint16_t>(write_sockaddr(id.source, &response.src_addr));
    response.dst_size = static_cast<uint16_t>(write_sockaddr(id.destination, &response.dst_addr));
  }
  if (id.gid_index) {
    response.node_guid = base::swap_to_big(config_.node_guid);
    response.port_num = 1;
    response.pkey = base::swap_to_big(kPkey);
  }
  return answer_with(response);
}

CmService::Answer CmService::query_path(const CmId& id) {
  struct Response {
    uint32_t num_paths;
    uint32_t reserved;
    ib_path_rec_data path;
  } response{};
  if (!id.gid_index || !has_route(id)) {
    return answer_with(std::array<uint32_t, 2>{});
  }
  response.num_paths = 1;
  response.path.flags = kFlagsOfPath;
  // A path record as subnet administration has it (IBTA 15.2.5.16).
  auto* record = reinterpret_cast<uint8_t*>(response.path.path_rec);
  std::copy(id.destination.ip.bytes.begin(), id.destination.ip.bytes.end(), record + 8);
  std::copy(id.source.ip.bytes.begin(), id.source.ip.bytes.end(), record + 24);
  record[47] = kHopLimit;
  record[48] = id.traffic_class;
  record[49] = 0x80 | 1;  // reversible, one path
  base::store_be<uint16_t>(record + 50, kPkey);
  record[54] = static_cast<uint8_t>(kExactly << 6 | mtu_of(id));
  record[55] = kExactly << 6 | kRate;
  record[56] = static_cast<uint8_t>(kExactly << 6 | (ack_timeout_of(id) - 1));
  return answer_with(response);
}

CmService::Answer CmService::init_qp_attributes(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_init_qp_attr>(input);
  if (!command) return cm_too_short();
  auto found = find_id(channel, command->id);
  if (!found) return found.error();
  const CmId& id = **found;
  if (!id.gid_index) return cm_invalid("it is not known yet where it leads");
  const auto state = static_cast<base::QpState>(command->qp_state);
  const cm::Terms* terms = id.connection ? manager_.terms(*id.connection) : nullptr;
  ib_uverbs_qp_attr out{};
  out.qp_state = static_cast<__u8>(state);
  Mask mask = base::kQpState;
  if (id.is_datagram() || terms == nullptr || state == base::QpState::kInit) {
    if (state != base::QpState::kInit && !id.is_datagram()) return cm_invalid("not connected");
    mask |= base::kQpPkeyIndex | base::kQpPort;
    out.port_num = 1;
    if (id.is_datagram()) {
      mask |= base::kQpQkey;
      out.qkey = id.qkey != 0 ? id.qkey : kCmQkey;
    } else {
      mask |= base::kQpAccessFlags;
      if (terms != nullptr) {
        out.qp_access_flags = base::kAccessRemoteWrite;
        if (terms->responder_resources != 0) {
          out.qp_access_flags |= base::kAccessRemoteRead | base::kAccessRemoteAtomic;
        }
      }
    }
  } else if (state == base::QpState::kReadyToReceive) {
    mask |= base::kQpAddressVector | base::kQpPathMtu | base::kQpDestQpn | base::kQpRqPsn;
    const cm::Path& path = *manager_.path(*id.connection);
    ib_uverbs_ah_attr& ah = out.ah_attr;
    ah.is_global = 1;
    ah.port_num = 1;
    std::copy(path.remote.bytes.begin(), path.remote.bytes.end(), ah.grh.dgid);
    ah.grh.sgid_index = static_cast<__u8>(*id.gid_index);
    ah.grh.hop_limit = path.hop_limit;
    ah.grh.traffic_class = path.traffic_class;
    ah.grh.flow_label = path.flow_label;
    out.path_mtu = terms->path_mtu;
    out.dest_qp_num = terms->remote_qpn;
    out.rq_psn = terms->receive_psn.value();
    if (terms->transport == wire::CmTransport::kReliable) {
      mask |= base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer;
      out.max_dest_rd_atomic = terms->responder_resources;
    }
  } else if (state == base::QpState::kReadyToSend) {
    mask |= base::kQpSqPsn;
    out.sq_psn = terms->send_psn.value();
    if (terms->transport == wire::CmTransport::kReliable) {
      mask |= base::kQpTimeout | base::kQpRetryCount | base::kQpRnrRetry | base::kQpMaxRdAtomic;
      out.timeout = id.ack_timeout.value_or(terms->ack_timeout);
      out.retry_cnt = terms->retry_count;
      out.rnr_retry = terms->rnr_retry_count;
      out.max_rd_atomic = terms->initiator_depth;
    }
  } else {
    return cm_invalid("not a state on the way to a connection");
  }
  out.qp_attr_mask = mask;
  return answer_with(out);
}

}  // namespace flexins::daemon
