#include <algorithm>
#include <cerrno>

#include "daemon/cm_codec.h"

/// Ids, addresses and ports: what comes before a connection.

namespace flexins::daemon {

using base::Error;
using base::Result;

namespace {

constexpr uint16_t kFirstUnprivilegedPort = 1024;
constexpr uint32_t kBacklogMax = 1024;
// enum ibv_qp_type
constexpr uint8_t kRc = 2;
constexpr uint8_t kUc = 3;
constexpr uint8_t kUd = 4;

uint64_t service_id(const CmId& id) { return uint64_t{id.port_space} << 16 | id.source.port; }

}  // namespace

CmService::Answer CmService::create_id(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_create_id>(input);
  if (!command) return cm_too_short();
  if (ids_.size() >= config_.ids_max ||
      (ids_of_users_.contains(channel.uid) && ids_of_users_[channel.uid] >= config_.ids_max / 2)) {
    return Error{ENOMEM, "no room for a further id"};
  }
  uint8_t qp_type = 0;
  switch (command->ps) {
    case RDMA_PS_TCP: qp_type = kRc; break;
    case RDMA_PS_UDP:
    case RDMA_PS_IPOIB: qp_type = kUd; break;
    case RDMA_PS_IB: qp_type = command->qp_type; break;
    default: break;
  }
  if (qp_type < kRc || qp_type > kUd) return cm_invalid("no such port space or type of QP");
  // A connected port space carries unreliable connections too, where the program says so.
  if (command->ps == RDMA_PS_TCP && command->qp_type == kUc) qp_type = kUc;
  CmId& id = make_id(channel);
  id.uid = command->uid;
  id.port_space = command->ps;
  id.qp_type = qp_type;
  return answer_with(rdma_ucm_create_id_resp{id.handle});
}

CmService::Answer CmService::destroy_id(CmChannel& channel, Input input, base::TimeNs now) {
  const auto command = decode_cm<rdma_ucm_destroy_id>(input);
  if (!command) return cm_too_short();
  auto id = find_id(channel, command->id);
  if (!id) return id.error();
  // What is withdrawn was waiting, so it has not been counted as reported.
  const rdma_ucm_destroy_id_resp response{(*id)->events_reported};
  CmAnswer answer = answer_with(response);
  answer.withdrawn_events = destroy(**id, now);
  return answer;
}

std::optional<size_t> CmService::gid_of(const wire::IpAddress& address) const {
  for (size_t i = 0; i < config_.addresses.size(); ++i) {
    if (config_.addresses[i].address == address) return i;
  }
  return std::nullopt;
}

/// A loopback address stands for all addresses, as it does with a kernel: libfabric binds to one to
/// learn what there is. Not where the engine is itself on the loopback interface, for then another
/// engine may be there.
CmAddress CmService::without_loopback(const CmAddress& address) const {
  const auto on_loopback = [](const engine::LocalAddress& own) {
    return CmAddress{own.address, 0, false}.loopback();
  };
  CmAddress to = address;
  if (address.loopback() &&
      std::none_of(config_.addresses.begin(), config_.addresses.end(), on_loopback)) {
    to.ip = address.v6 ? wire::IpAddress{} : wire::IpAddress::from_v4("\0\0\0\0");
  }
  return to;
}

Result<void> CmService::bind(CmId& id, const CmAddress& named) {
  const CmAddress address = without_loopback(named);
  if (id.state != CmIdState::kIdle) return cm_invalid("it is bound already");
  if (address.port != 0 && address.port < kFirstUnprivilegedPort && id.channel->uid != 0) {
    return Error{EACCES, "ports below 1024 are root's"};
  }
  std::optional<size_t> gid;
  if (!address.any()) {
    gid = gid_of(address.ip);
    if (!gid) return Error{EADDRNOTAVAIL, "not an address of this engine"};
  }
  const CmAddress before = id.source;
  id.source = address;
  if (auto taken = ports_.take(id); !taken) {
    id.source = before;
    return taken;
  }
  id.gid_index = gid;
  id.state = CmIdState::kBound;
  return {};
}

CmService::Answer CmService::bind_ip(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_bind_ip>(input);
  if (!command) return cm_too_short();
  auto id = find_id(channel, command->id);
  if (!id) return id.error();
  const auto address = read_sockaddr(bytes_of(command->addr));
  if (!address) return Error{EAFNOSUPPORT, "neither IPv4 nor IPv6"};
  if (auto bound = bind(**id, *address); !bound) return bound.error();
  return CmAnswer{};
}

CmService::Answer CmService::bind_any(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_bind>(input);
  if (!command) return cm_too_short();
  if (command->addr_size > sizeof command->addr) return cm_invalid("address too long");
  auto id = find_id(channel, command->id);
  if (!id) return id.error();
  // AF_IB is refused: libraries then keep to IP addresses, which is all that RoCE has.
  const auto address = read_sockaddr(bytes_of(command->addr).first(command->addr_size));
  if (!address) return Error{EAFNOSUPPORT, "neither IPv4 nor IPv6"};
  if (auto bound = bind(**id, *address); !bound) return bound.error();
  return CmAnswer{};
}

Result<size_t> CmService::choose_gid(const CmId& id) {
  if (!id.source.any()) {
    if (const auto own = gid_of(id.source.ip)) return *own;
    return Error{EADDRNOTAVAIL, "not an address of this engine"};
  }
  if (const auto own = gid_of(id.destination.ip)) return *own;
  auto source = routes_.source_for(id.destination.ip);
  if (!source) return source.error();
  if (const auto own = gid_of(*source)) return *own;
  // The kernel would leave from an address that is not the engine's (such as another one of the
  // loopback interface): any of the same family is as good.
  for (size_t i = 0; i < config_.addresses.size(); ++i) {
    if (config_.addresses[i].address.is_v4() == id.destination.ip.is_v4()) return i;
  }
  return Error{ENODEV, "this engine has no address of that family"};
}

CmService::Answer CmService::resolve(CmId& id, const std::optional<CmAddress>& source,
                                     const std::optional<CmAddress>& destination) {
  if (!destination) return Error{EAFNOSUPPORT, "neither IPv4 nor IPv6"};
  if (id.state == CmIdState::kIdle) {
    CmAddress from;
    from.v6 = destination->v6;
    if (!from.v6) from.ip = wire::IpAddress::from_v4("\0\0\0\0");
    if (auto bound = bind(id, source.value_or(from)); !bound) return bound.error();
  }
  if (id.state != CmIdState::kBound) return cm_invalid("it is resolved already");
  id.destination = without_loopback(*destination);
  auto gid = choose_gid(id);
  if (!gid) {
    tell(id, 1 /* RDMA_CM_EVENT_ADDR_ERROR */, -gid.error().code);
    return CmAnswer{};
  }
  id.gid_index = *gid;
  id.source.ip = config_.addresses[*gid].address;
  id.source.v6 = !id.source.ip.is_v4();
  if (id.destination.any()) {  // this very host
    id.destination.ip = id.source.ip;
    id.destination.v6 = id.source.v6;
  }
  id.state = CmIdState::kAddrResolved;
  tell(id, 0 /* RDMA_CM_EVENT_ADDR_RESOLVED */);
  return CmAnswer{};
}

CmService::Answer CmService::resolve_ip(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_resolve_ip>(input);
  if (!command) return cm_too_short();
  auto id = find_id(channel, command->id);
  if (!id) return id.error();
  return resolve(**id, read_sockaddr(bytes_of(command->src_addr)),
                 read_sockaddr(bytes_of(command->dst_addr)));
}

CmService::Answer CmService::resolve_address(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_resolve_addr>(input);
  if (!command) return cm_too_short();
  if (command->src_size > sizeof command->src_addr ||
      command->dst_size > sizeof command->dst_addr) {
    return cm_invalid("address too long");
  }
  auto id = find_id(channel, command->id);
  if (!id) return id.error();
  return resolve(**id, read_sockaddr(bytes_of(command->src_addr).first(command->src_size)),
                 read_sockaddr(bytes_of(command->dst_addr).first(command->dst_size)));
}

CmService::Answer CmService::resolve_route(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_resolve_route>(input);
  if (!command) return cm_too_short();
  auto id = find_id(channel, command->id);
  if (!id) return id.error();
  if ((*id)->state != CmIdState::kAddrResolved) return cm_invalid("no address is resolved");
  (*id)->state = CmIdState::kRouteResolved;
  tell(**id, 2 /* RDMA_CM_EVENT_ROUTE_RESOLVED */);
  return CmAnswer{};
}

CmService::Answer CmService::listen(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_listen>(input);
  if (!command) return cm_too_short();
  auto found = find_id(channel, command->id);
  if (!found) return found.error();
  CmId& id = **found;
  if (id.state == CmIdState::kIdle) {
    CmAddress any;
    any.ip = wire::IpAddress::from_v4("\0\0\0\0");
    if (auto bound = bind(id, any); !bound) return bound.error();
  }
  if (id.state != CmIdState::kBound) return cm_invalid("it does something else already");
  if (auto may = ports_.may_listen(id); !may) return may.error();
  const auto asked = static_cast<int32_t>(command->backlog);
  const uint32_t backlog = asked > 0 ? std::min(command->backlog, kBacklogMax) : kBacklogMax;
  auto listener = manager_.listen(service_id(id), id.source.ip, backlog);
  if (!listener) return listener.error();
  id.listener = *listener;
  id.state = CmIdState::kListening;
  by_listener_[listener->value] = &id;
  return CmAnswer{};
}

CmService::Answer CmService::set_option(CmChannel& channel, Input input) {
  const auto command = decode_cm<rdma_ucm_set_option>(input);
  if (!command) return cm_too_short();
  const Input value = input.subspan(sizeof *command);
  if (command->optlen != value.size()) return cm_invalid("the option's value is not whole");
  auto found = find_id(channel, command->id);
  if (!found) return found.error();
  CmId& id = **found;
  if (command->level == RDMA_OPTION_IB && command->optname == RDMA_OPTION_IB_PATH) {
    // A path that the program has found by itself: to one that we know already.
    if (id.state != CmIdState::kAddrResolved) return cm_invalid("no address is resolved");
    id.state = CmIdState::kRouteResolved;
    tell(id, 2 /* RDMA_CM_EVENT_ROUTE_RESOLVED */);
    return CmAnswer{};
  }
  if (command->level != RDMA_OPTION_ID) return Error{ENOSYS, "no such level of options"};
  const bool is_byte =
      command->optname == RDMA_OPTION_ID_TOS || command->optname == RDMA_OPTION_ID_ACK_TIMEOUT;
  if (value.size() != (is_byte ? 1 : sizeof(int))) return cm_invalid("an option of another size");
  int number = 0;
  std::memcpy(&number, value.data(), value.size());
  switch (command->optname) {
    case RDMA_OPTION_ID_TOS: id.traffic_class = static_cast<uint8_t>(number); break;
    case RDMA_OPTION_ID_REUSEADDR:
      if (id.state != CmIdState::kIdle && id.state != CmIdState::kBound) {
        return cm_invalid("too late for this option");
      }
      id.reuse_address = number != 0;
      break;
    case RDMA_OPTION_ID_AFONLY:
      // A listener for all addresses takes the requests of its own family first in any case.
      if (id.state != CmIdState::kIdle) return cm_invalid("too late for this option");
      break;
    case RDMA_OPTION_ID_ACK_TIMEOUT:
      if (number > 31) return cm_invalid("an ACK timeout has five bits");
      id.ack_timeout = static_cast<uint8_t>(number);
      break;
    default: return Error{ENOSYS, "no such option"};
  }
  return CmAnswer{};
}

}  // namespace flexins::daemon
