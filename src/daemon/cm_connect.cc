#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "daemon/cm_codec.h"
#include "wire/ip_cm.h"

/// Connections and the resolution of datagram services, as programs ask for them.

namespace flexins::daemon {

using base::Error;
using base::Result;

namespace {

/// 268 ms: no software peer answers within less under load, and a loss costs no more.
constexpr uint8_t kAckTimeout = 16;
constexpr uint32_t kCommunicationEstablished = 4;  // enum ibv_event_type
constexpr uint8_t kUc = 3;

std::span<const uint8_t> private_data(const rdma_ucm_conn_param& param) {
  return {param.private_data, param.private_data_len};
}

/// Addresses in front, the program's own data behind. E2BIG where there is no room.
template <size_t kBytes>
Result<std::array<uint8_t, kBytes>> with_addresses(const CmId& id, std::span<const uint8_t> data) {
  if (data.size() > kBytes - wire::kIpCmHeaderBytes) {
    return cm_invalid("more private data than the message carries");
  }
  std::array<uint8_t, kBytes> out{};
  wire::emit_ip_cm({id.source.port, id.source.ip, id.destination.ip},
                   std::span(out).template first<wire::kIpCmHeaderBytes>());
  std::copy(data.begin(), data.end(), out.begin() + wire::kIpCmHeaderBytes);
  return out;
}

cm::Path path_of(const CmId& id) {
  cm::Path path;
  path.local = id.source.ip;
  path.remote = id.destination.ip;
  path.traffic_class = id.traffic_class;
  return path;
}

}  // namespace

uint8_t CmService::mtu_of(const CmId& id) const {
  const uint32_t bytes = config_.addresses[id.gid_index.value_or(0)].mtu_bytes;
  return static_cast<uint8_t>(std::bit_width(bytes) - 8);  // 256 bytes is 1
}

uint8_t CmService::ack_timeout_of(const CmId& id) const {
  return id.ack_timeout.value_or(kAckTimeout);
}

CmService::Answer CmService::connect(CmChannel& channel, Input input, base::TimeNs now) {
  // The last member is younger than the rest.
  if (input.size() < offsetof(rdma_ucm_connect, ece)) return cm_too_short();
  rdma_ucm_connect command{};
  std::memcpy(&command, input.data(), std::min(input.size(), sizeof command));
  auto found = find_id(channel, command.id);
  if (!found) return found.error();
  CmId& id = **found;
  const rdma_ucm_conn_param& param = command.conn_param;
  if (!param.valid) return cm_invalid("no parameters");
  if (id.state != CmIdState::kRouteResolved) return cm_invalid("no route is resolved");
  const uint64_t service = uint64_t{id.port_space} << 16 | id.destination.port;
  Result<cm::ConnectionId> connection = Error{EINVAL, ""};
  if (id.is_datagram()) {
    auto data = with_addresses<wire::kSidrReqPrivateBytes>(id, private_data(param));
    if (!data) return data.error();
    id.qkey = param.qkey != 0 ? param.qkey : kCmQkey;
    connection = manager_.resolve_service(path_of(id), service, *data, now);
  } else {
    auto data = with_addresses<wire::kReqPrivateBytes>(id, private_data(param));
    if (!data) return data.error();
    cm::ConnectRequest request;
    request.path = path_of(id);
    request.service_id = service;
    request.private_data = *data;
    cm::Terms& terms = request.terms;
    terms.local_qpn = param.qp_num & base::Psn::kMask;
    terms.responder_resources = param.responder_resources;
    terms.initiator_depth = param.initiator_depth;
    terms.flow_control = param.flow_control != 0;
    terms.retry_count = std::min<uint8_t>(param.retry_count, 7);
    terms.rnr_retry_count = std::min<uint8_t>(param.rnr_retry_count, 7);
    terms.srq = param.srq != 0;
    terms.path_mtu = mtu_of(id);
    terms.ack_timeout = ack_timeout_of(id);
    terms.transport =
        id.qp_type == kUc ? wire::CmTransport::kUnreliable : wire::CmTransport::kReliable;
    connection = manager_.connect(request, now);
  }
  if (!connection) return connection.error();
  id.connection = *connection;
  id.state = CmIdState::kConnecting;
  by_connection_[connection->value] = &id;
  return CmAnswer{};
}

Result<void> CmService::accept_datagram(CmId& id, const rdma_ucm_conn_param& param,
                                        base::TimeNs now) {
  id.qkey = param.qkey != 0 ? param.qkey : kCmQkey;
  return manager_.answer_service(*id.connection, wire::CmSidrStatus::kSuccess,
                                 param.qp_num & base::Psn::kMask, id.qkey, private_data(param),
                                 now);
}

CmService::Answer CmService::accept(CmChannel& channel, Input input, base::TimeNs now) {
  if (input.size() < offsetof(rdma_ucm_accept, ece)) return cm_too_short();
  rdma_ucm_accept command{};
  std::memcpy(&command, input.data(), std::min(input.size(), sizeof command));
  auto found = find_id(channel, command.id);
  if (!found) return found.error();
  CmId& id = **found;
  if (!id.connection) return cm_invalid("there is nothing to accept");
  const rdma_ucm_conn_param& param = command.conn_param;
  Result<void> accepted;
  if (!param.valid) {
    // The active end: its program has taken note of the reply.
    accepted = manager_.ready(*id.connection, now);
    if (accepted) id.state = CmIdState::kConnected;
  } else if (id.is_datagram()) {
    accepted = accept_datagram(id, param, now);
  } else {
    cm::AcceptReply reply;
    reply.local_qpn = param.qp_num & base::Psn::kMask;
    reply.responder_resources = param.responder_resources;
    reply.initiator_depth = param.initiator_depth;
    reply.flow_control = param.flow_control != 0;
    reply.rnr_retry_count = std::min<uint8_t>(param.rnr_retry_count, 7);
    reply.srq = param.srq != 0;
    reply.private_data = private_data(param);
    accepted = manager_.accept(*id.connection, reply, now);
  }
  if (!accepted) return accepted.error();
  if (param.valid) id.uid = command.uid;
  return CmAnswer{};
}

CmService::Answer CmService::reject(CmChannel& channel, Input input, base::TimeNs now) {
  const auto command = decode_cm<rdma_ucm_reject>(input);
  if (!command) return cm_too_short();
  auto found = find_id(channel, command->id);
  if (!found) return found.error();
  CmId& id = **found;
  if (!id.connection) return cm_invalid("there is nothing to reject");
  const std::span<const uint8_t> data{command->private_data, command->private_data_len};
  const auto rejected =
      id.is_datagram()
          ? manager_.answer_service(*id.connection, wire::CmSidrStatus::kReject, 0, 0, data, now)
          : manager_.reject(*id.connection, data, now);
  if (!rejected) return rejected.error();
  id.state = CmIdState::kDisconnected;
  return CmAnswer{};
}

CmService::Answer CmService::disconnect(CmChannel& channel, Input input, base::TimeNs now) {
  const auto command = decode_cm<rdma_ucm_disconnect>(input);
  if (!command) return cm_too_short();
  auto found = find_id(channel, command->id);
  if (!found) return found.error();
  CmId& id = **found;
  if (!id.connection || id.is_datagram()) return cm_invalid("it is not connected");
  // Where it is over already there is nothing to do, and as with the kernel that is no error.
  [[maybe_unused]] const auto asked = manager_.disconnect(*id.connection, now);
  return CmAnswer{};
}

CmService::Answer CmService::notify(CmChannel& channel, Input input, base::TimeNs now) {
  const auto command = decode_cm<rdma_ucm_notify>(input);
  if (!command) return cm_too_short();
  auto found = find_id(channel, command->id);
  if (!found) return found.error();
  CmId& id = **found;
  if (!id.connection || id.is_datagram()) return cm_invalid("it is not connected");
  if (command->event != kCommunicationEstablished) return cm_invalid("not an event of interest");
  if (auto told = manager_.communication_established(*id.connection, now); !told) {
    return told.error();
  }
  return CmAnswer{};
}

}  // namespace flexins::daemon
