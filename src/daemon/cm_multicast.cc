#include <algorithm>
#include <cerrno>

#include "daemon/cm_codec.h"

/// Multicast groups. RoCE has no subnet administration to ask: the group's address is its GID, and
/// joining is told at once; packets come when a queue pair is attached to it.

namespace flexins::daemon {

using base::Error;

namespace {

constexpr uint32_t kMulticastJoin = 12;  // enum rdma_cm_event_type
constexpr uint32_t kMulticastQpn = 0xff'ffff;
constexpr size_t kMembershipsMax = 256;

bool is_multicast(const wire::IpAddress& address) {
  return address.is_v4() ? (address.v4_bytes()[0] & 0xf0) == 0xe0 : address.bytes[0] == 0xff;
}

}  // namespace

CmService::Answer CmService::join(CmId& id, uint64_t uid, const std::optional<CmAddress>& group) {
  if (!group) return Error{EAFNOSUPPORT, "neither IPv4 nor IPv6"};
  if (!id.is_datagram()) return cm_invalid("multicast is for datagrams");
  if (!id.gid_index) return cm_invalid("the id is not bound to an address");
  if (!is_multicast(group->ip)) return cm_invalid("not a multicast address");
  if (id.multicasts.size() >= kMembershipsMax) return Error{ENOMEM, "too many groups"};
  for (const auto& [handle, known] : id.multicasts) {
    if (known.address.ip == group->ip) return Error{EADDRINUSE, "a member already"};
  }
  // Handles of ids and of memberships are one family, as the events bring either.
  while (last_handle_ == 0 || ids_.contains(last_handle_)) ++last_handle_;
  const uint32_t handle = last_handle_++;
  id.multicasts[handle] = CmMulticast{handle, uid, *group, 0};
  if (id.qkey == 0) id.qkey = kCmQkey;

  CmEvent event;
  event.multicast = handle;
  event.response.event = kMulticastJoin;
  event.response.uid = uid;
  event.response.id = handle;
  rdma_ucm_ud_param& ud = event.response.param.ud;
  ud.qp_num = kMulticastQpn;
  ud.qkey = id.qkey;
  ud.ah_attr.is_global = 1;
  ud.ah_attr.port_num = 1;
  // The GID of an IPv4 group under RoCE v2 is its mapped address.
  std::copy(group->ip.bytes.begin(), group->ip.bytes.end(), ud.ah_attr.grh.dgid);
  ud.ah_attr.grh.sgid_index = static_cast<__u8>(*id.gid_index);
  ud.ah_attr.grh.hop_limit = 64;
  ud.ah_attr.grh.traffic_class = id.traffic_class;
  tell(id, event);
  return answer_with(rdma_ucm_create_id_resp{handle});
}

CmService::Answer CmService::join_ip(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_join_ip_mcast>(input);
  if (!command) return cm_too_short();
  auto id = find_id(channel, command->id);
  if (!id) return id.error();
  return join(**id, command->uid, read_sockaddr(bytes_of(command->addr)));
}

CmService::Answer CmService::join_any(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_join_mcast>(input);
  if (!command) return cm_too_short();
  if (command->addr_size > sizeof command->addr) return cm_invalid("address too long");
  if (command->join_flags != RDMA_MC_JOIN_FLAG_FULLMEMBER &&
      command->join_flags != RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER) {
    return cm_invalid("no such kind of membership");
  }
  auto id = find_id(channel, command->id);
  if (!id) return id.error();
  return join(**id, command->uid, read_sockaddr(bytes_of(command->addr).first(command->addr_size)));
}

CmService::Answer CmService::leave(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_destroy_id>(input);
  if (!command) return cm_too_short();
  for (auto& [handle, id] : channel.ids) {
    const auto found = id->multicasts.find(command->id);
    if (found == id->multicasts.end()) continue;
    CmAnswer answer = answer_with(rdma_ucm_destroy_id_resp{found->second.events_reported});
    answer.withdrawn_events = static_cast<uint32_t>(std::erase_if(
        channel.events, [&](const CmEvent& event) { return event.multicast == command->id; }));
    id->multicasts.erase(found);
    return answer;
  }
  return Error{ENOENT, "no such membership on this channel"};
}

}  // namespace flexins::daemon
