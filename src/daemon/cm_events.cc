#include <algorithm>
#include <cerrno>

#include "daemon/cm_codec.h"
#include "wire/ip_cm.h"

/// What happens to connections, as events for their programs.

namespace flexins::daemon {

namespace {

// enum rdma_cm_event_type
constexpr uint32_t kConnectRequest = 4;
constexpr uint32_t kConnectResponse = 5;
constexpr uint32_t kUnreachable = 7;
constexpr uint32_t kRejected = 8;
constexpr uint32_t kEstablished = 9;
constexpr uint32_t kDisconnected = 10;
constexpr uint32_t kTimewaitExit = 15;
// enum ibv_qp_type
constexpr uint8_t kRc = 2;
constexpr uint8_t kUc = 3;
constexpr uint8_t kUd = 4;

template <typename Param>
void set_private_data(Param& param, std::span<const uint8_t> data) {
  std::copy(data.begin(), data.end(), param.private_data);
  param.private_data_len = static_cast<uint8_t>(data.size());
}

/// As the receiver sees it: what the peer may start is what this end has to answer.
void set_request(rdma_ucm_conn_param& param, const wire::CmReq& req) {
  set_private_data(param, std::span(req.private_data).subspan(wire::kIpCmHeaderBytes));
  param.qp_num = req.local_qpn;
  param.responder_resources = req.initiator_depth;
  param.initiator_depth = req.responder_resources;
  param.flow_control = req.flow_control;
  param.retry_count = req.retry_count;
  param.rnr_retry_count = req.rnr_retry_count;
  param.srq = req.srq;
  param.valid = 1;
}

void set_reply(rdma_ucm_conn_param& param, const wire::CmRep& rep) {
  set_private_data(param, rep.private_data);
  param.qp_num = rep.local_qpn;
  param.responder_resources = rep.initiator_depth;
  param.initiator_depth = rep.responder_resources;
  param.flow_control = rep.flow_control;
  param.rnr_retry_count = rep.rnr_retry_count;
  param.srq = rep.srq;
  param.valid = 1;
}

}  // namespace

void CmService::take_manager_events(base::TimeNs now) {
  cm::Event event;
  while (manager_.next_event(event)) on_event(event, now);
}

void CmService::on_event(const cm::Event& event, base::TimeNs now) {
  if (event.kind == cm::EventKind::kRequest || event.kind == cm::EventKind::kServiceRequest) {
    return on_request(event, now);
  }
  const auto found = by_connection_.find(event.connection.value);
  if (found != by_connection_.end()) on_connection_event(*found->second, event);
}

void CmService::on_request(const cm::Event& event, base::TimeNs now) {
  const auto found = by_listener_.find(event.listener.value);
  const auto* req = std::get_if<wire::CmReq>(&event.body);
  const auto* service = std::get_if<wire::CmSidrReq>(&event.body);
  const std::span<const uint8_t> data =
      req != nullptr ? std::span<const uint8_t>(req->private_data) : service->private_data;
  const cm::Path* path = manager_.path(event.connection);
  wire::IpCmHeader header;
  const bool right = found != by_listener_.end() && path != nullptr &&
                     wire::parse_ip_cm(data, header) && header.destination == path->local &&
                     ids_.size() < config_.ids_max &&
                     found->second->is_datagram() == (service != nullptr);
  if (!right) {
    manager_.request_taken(event.listener);
    return manager_.release(event.connection, now);
  }
  CmId& listener = *found->second;
  CmId& id = make_id(*listener.channel);
  id.port_space = listener.port_space;
  id.qp_type = service != nullptr                                 ? kUd
               : req->transport == wire::CmTransport::kUnreliable ? kUc
                                                                  : kRc;
  id.state = CmIdState::kConnecting;
  id.source = {path->local, listener.source.port, !path->local.is_v4()};
  id.destination = {header.source, header.source_port, !header.source.is_v4()};
  id.gid_index = gid_of(path->local);
  id.traffic_class = path->traffic_class;
  id.qkey = kCmQkey;
  id.connection = event.connection;
  by_connection_[event.connection.value] = &id;

  CmEvent told;
  told.request = id.handle;
  told.response.event = kConnectRequest;
  told.response.id = id.handle;
  if (req != nullptr) {
    set_request(told.response.param.conn, *req);
  } else {
    set_private_data(told.response.param.ud,
                     std::span(service->private_data).subspan(wire::kIpCmHeaderBytes));
  }
  tell(listener, told);
}

void CmService::on_end(CmId& id, bool timed_out) {
  // Once only, whoever began.
  if (id.state == CmIdState::kDisconnected) return;
  id.state = CmIdState::kDisconnected;
  tell(id, kDisconnected, timed_out ? -ETIMEDOUT : 0);
}

void CmService::on_service_reply(CmId& id, const wire::CmSidrRep& rep) {
  if (rep.status != wire::CmSidrStatus::kSuccess) {
    id.state = CmIdState::kDisconnected;
    return tell(id, kUnreachable, static_cast<int>(rep.status));
  }
  id.state = CmIdState::kConnected;
  CmEvent event;
  event.response.event = kEstablished;
  rdma_ucm_ud_param& ud = event.response.param.ud;
  ud.qp_num = rep.qpn;
  ud.qkey = rep.qkey;
  ud.ah_attr.is_global = 1;
  ud.ah_attr.port_num = 1;
  std::copy(id.destination.ip.bytes.begin(), id.destination.ip.bytes.end(), ud.ah_attr.grh.dgid);
  ud.ah_attr.grh.sgid_index = static_cast<__u8>(id.gid_index.value_or(0));
  ud.ah_attr.grh.hop_limit = 64;
  ud.ah_attr.grh.traffic_class = id.traffic_class;
  set_private_data(ud, rep.private_data);
  tell(id, event);
}

void CmService::on_connection_event(CmId& id, const cm::Event& event) {
  switch (event.kind) {
    case cm::EventKind::kReply: {
      CmEvent told;
      told.response.event = kConnectResponse;
      set_reply(told.response.param.conn, std::get<wire::CmRep>(event.body));
      return tell(id, told);
    }
    case cm::EventKind::kEstablished: {
      id.state = CmIdState::kConnected;
      CmEvent told;
      told.response.event = kEstablished;
      if (const auto* rtu = std::get_if<wire::CmRtu>(&event.body)) {
        set_private_data(told.response.param.conn, rtu->private_data);
      }
      return tell(id, told);
    }
    case cm::EventKind::kRejected: {
      const auto& rej = std::get<wire::CmRej>(event.body);
      id.state = CmIdState::kDisconnected;
      CmEvent told;
      told.response.event = kRejected;
      told.response.status = static_cast<uint32_t>(rej.reason);
      set_private_data(told.response.param.conn, rej.private_data);
      return tell(id, told);
    }
    case cm::EventKind::kUnreachable:
      id.state = CmIdState::kDisconnected;
      return tell(id, kUnreachable, -ETIMEDOUT);
    case cm::EventKind::kDisconnectRequest: return on_end(id, false);
    case cm::EventKind::kDisconnected: return on_end(id, event.timed_out);
    case cm::EventKind::kTimewaitExit: return tell(id, kTimewaitExit);
    case cm::EventKind::kServiceReply:
      return on_service_reply(id, std::get<wire::CmSidrRep>(event.body));
    case cm::EventKind::kRequest:
    case cm::EventKind::kServiceRequest: return;
  }
}

}  // namespace flexins::daemon
