#include <algorithm>
#include <cstring>

#include "base/byte_order.h"
#include "base/check.h"
#include "conversation_end.h"

/// What the programs of a captured conversation did, told from what they sent.

namespace flexins::interop {
namespace {

using base::QpType;
using base::WrOpcode;

constexpr uint32_t kDepth = 64;
constexpr uint32_t kReceives = 16;
constexpr uint32_t kReceiveBytes = 4096;
constexpr uint32_t kCmQkey = 0x0123'4567;  // rdma_cm's own
/// Work requests have the numbers from 1; receives those from here, with room for each QP's.
constexpr uint64_t kReceiveId = 1 << 16;

bool is_datagram(const Captured& packet) {
  return wire::transport_class(packet.headers.bth.opcode) == wire::TransportClass::kDatagram;
}

}  // namespace

std::map<uint32_t, ConversationEnd::Agreed> ConversationEnd::agreements() const {
  std::map<uint32_t, wire::CmReq> requests;  // by the client's id
  std::map<uint32_t, Agreed> all;
  for (const Captured& packet : capture_.packets) {
    wire::CmMessage message;
    if (!parse_management(packet, message)) {
      if (!is_datagram(packet)) continue;
      const uint32_t source = packet.headers.deth.source.value;
      const uint32_t destination = packet.headers.bth.destination.value;
      Agreed& agreed = all[is_ours(packet) ? source : destination];
      agreed.type = QpType::kDatagram;
      agreed.remote_qpn = is_ours(packet) ? destination : source;
    } else if (const auto* req = std::get_if<wire::CmReq>(&message.body)) {
      requests[req->local_id] = *req;
    } else if (const auto* rep = std::get_if<wire::CmRep>(&message.body)) {
      const wire::CmReq& asked = requests.at(rep->remote_id);
      const bool is_client = role_ == Role::kClient;
      Agreed& agreed = all[is_client ? asked.local_qpn : rep->local_qpn];
      agreed.remote_qpn = is_client ? rep->local_qpn : asked.local_qpn;
      agreed.receive_psn = is_client ? asked.starting_psn : rep->starting_psn;
      agreed.send_psn = is_client ? rep->starting_psn : asked.starting_psn;
      agreed.path_mtu = asked.path_mtu;
    }
  }
  return all;
}

void ConversationEnd::open_queue_pair(uint32_t captured_qpn, const Agreed& agreed) {
  engine::CreateQp request;
  request.pd = application_->pd;
  request.send_cq = request.receive_cq = application_->cq;
  request.type = agreed.type;
  request.max_send_wr = request.max_receive_wr = kDepth;
  engine::testing::Ring ring(pipe::receive_ring_bytes(kDepth, 1));
  const auto qpn = host_->engine->create_qp(application_->context, request, ring.get()).value();
  const pipe::ReceiveProducer receives(ring.data(), kDepth, 1);
  QueuePair qp{agreed, {std::move(ring), qpn, receives}, kReceiveId + kReceives * qps_.size()};
  if (agreed.type == QpType::kDatagram) {
    make_datagram_qp_ready(qpn, agreed);
  } else {
    connect(qpn, agreed);
  }
  post_receives(qp);
  qps_.emplace(captured_qpn, std::move(qp));
}

void ConversationEnd::modify(base::Qpn qpn, const base::QpAttributes& attributes, uint32_t mask) {
  FLEXINS_CHECK(application_->modify(qpn, attributes, mask).ok());
}

void ConversationEnd::make_datagram_qp_ready(base::Qpn qpn, const Agreed& agreed) {
  base::QpAttributes a;
  a.state = base::QpState::kInit;
  a.port_number = 1;
  a.qkey = kCmQkey;
  modify(qpn, a, base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpQkey);
  a.state = base::QpState::kReadyToReceive;
  modify(qpn, a, base::kQpState);
  a.state = base::QpState::kReadyToSend;
  a.sq_psn = agreed.send_psn.value();
  modify(qpn, a, base::kQpState | base::kQpSqPsn);
}

void ConversationEnd::connect(base::Qpn qpn, const Agreed& agreed) {
  base::QpAttributes a;
  a.state = base::QpState::kInit;
  a.port_number = 1;
  a.access_flags = base::kAccessLocalWrite | base::kAccessRemoteWrite | base::kAccessRemoteRead;
  modify(qpn, a, base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpAccessFlags);
  a.state = base::QpState::kReadyToReceive;
  a.path_mtu = agreed.path_mtu;
  a.destination_qpn = agreed.remote_qpn;
  a.rq_psn = agreed.receive_psn.value();
  a.max_dest_rd_atomic = 1;
  a.min_rnr_timer = 12;
  a.address.destination_gid = (role_ == Role::kClient ? capture_.server : capture_.client).bytes;
  a.address.is_global = 1;
  a.address.port_number = 1;
  modify(qpn, a,
         base::kQpState | base::kQpAddressVector | base::kQpPathMtu | base::kQpDestQpn |
             base::kQpRqPsn | base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer);
  a.state = base::QpState::kReadyToSend;
  a.sq_psn = agreed.send_psn.value();
  a.timeout = 14;
  a.retry_count = 7;
  a.rnr_retry = 7;
  a.max_rd_atomic = 1;
  modify(qpn, a,
         base::kQpState | base::kQpTimeout | base::kQpRetryCount | base::kQpRnrRetry |
             base::kQpSqPsn | base::kQpMaxRdAtomic);
}

void ConversationEnd::post_receives(QueuePair& qp) {
  const bool has_grh = qp.agreed.type == QpType::kDatagram;
  for (uint32_t i = 0; i < kReceives; ++i) {
    const size_t offset = reserve(kReceiveBytes);
    const base::Sge into = {iova(offset), kReceiveBytes, key_.value};
    qp.endpoint.receives.write(qp.next_receive + i, std::span(&into, 1));
    receive_offsets_[qp.next_receive + i] = offset + (has_grh ? kGrhBytes : 0);
  }
  qp.endpoint.receives.publish();
}

void ConversationEnd::call_manager(const wire::CmMessage& message) {
  base::Result<void> done;
  if (const auto* req = std::get_if<wire::CmReq>(&message.body)) {
    cm::ConnectRequest request;
    request.path = path_of(req->primary.traffic_class, req->primary.flow_label);
    request.service_id = req->service_id;
    request.private_data = req->private_data;
    cm::Terms& terms = request.terms;
    terms.local_qpn = req->local_qpn;
    terms.responder_resources = req->responder_resources;
    terms.initiator_depth = req->initiator_depth;
    terms.retry_count = req->retry_count;
    terms.rnr_retry_count = req->rnr_retry_count;
    terms.path_mtu = req->path_mtu;
    terms.ack_timeout = req->primary.local_ack_timeout;
    terms.flow_control = req->flow_control;
    terms.srq = req->srq;
    const auto connection = manager_->connect(request, now_);
    if (!connection) done = connection.error();
  } else if (const auto* rep = std::get_if<wire::CmRep>(&message.body)) {
    cm::AcceptReply reply;
    reply.local_qpn = rep->local_qpn;
    reply.responder_resources = rep->responder_resources;
    reply.initiator_depth = rep->initiator_depth;
    reply.rnr_retry_count = rep->rnr_retry_count;
    reply.flow_control = rep->flow_control;
    reply.srq = rep->srq;
    reply.private_data = rep->private_data;
    done = manager_->accept(requests_.at(rep->remote_id), reply, now_);
  } else if (const auto* rtu = std::get_if<wire::CmRtu>(&message.body)) {
    done = manager_->ready(cm::ConnectionId{ids_.at(rtu->local_id)}, now_);
  } else if (const auto* rej = std::get_if<wire::CmRej>(&message.body)) {
    done = manager_->reject(requests_.at(rej->remote_id), rej->private_data, now_);
  } else if (const auto* dreq = std::get_if<wire::CmDreq>(&message.body)) {
    done = manager_->disconnect(cm::ConnectionId{ids_.at(dreq->local_id)}, now_);
  } else if (const auto* drep = std::get_if<wire::CmDrep>(&message.body)) {
    done = manager_->disconnect(cm::ConnectionId{ids_.at(drep->local_id)}, now_);
  } else if (const auto* ask = std::get_if<wire::CmSidrReq>(&message.body)) {
    const auto connection =
        manager_->resolve_service(path_of(0, 0), ask->service_id, ask->private_data, now_);
    if (!connection) done = connection.error();
  } else if (const auto* answer = std::get_if<wire::CmSidrRep>(&message.body)) {
    done = manager_->answer_service(requests_.at(answer->request_id), answer->status, answer->qpn,
                                    answer->qkey, answer->private_data, now_);
  }
  if (!done) complaints_.push_back("the manager refuses: " + done.error().message);
}

cm::Path ConversationEnd::path_of(uint8_t traffic_class, uint32_t flow_label) const {
  cm::Path path;
  path.local = role_ == Role::kClient ? capture_.client : capture_.server;
  path.remote = role_ == Role::kClient ? capture_.server : capture_.client;
  path.traffic_class = traffic_class;
  path.flow_label = flow_label;
  return path;
}

const Captured* ConversationEnd::answer_to(const Captured& request) const {
  for (const Captured& packet : capture_.packets) {
    if (packet.headers.bth.opcode == wire::Opcode::kRcReadResponseOnly &&
        packet.from_client != request.from_client &&
        packet.headers.bth.psn == request.headers.bth.psn) {
      return &packet;
    }
  }
  return nullptr;
}

void ConversationEnd::place_read_answer(const Captured& request) {
  const Captured* answer = answer_to(request);
  FLEXINS_CHECK(answer != nullptr);
  const size_t offset = request.headers.reth.address - base_address_;
  FLEXINS_CHECK(offset + answer->payload.size() <= memory_.size());
  std::memcpy(&memory_[offset], answer->payload.data(), answer->payload.size());
}

void ConversationEnd::post(const Captured& packet) {
  const wire::Headers& headers = packet.headers;
  WrOpcode opcode = WrOpcode::kSend;
  uint32_t length = static_cast<uint32_t>(packet.payload.size());
  switch (headers.bth.opcode) {
    case wire::Opcode::kRcSendOnly: break;
    case wire::Opcode::kUdSendOnlyImmediate: opcode = WrOpcode::kSendWithImmediate; break;
    case wire::Opcode::kRcWriteOnly: opcode = WrOpcode::kRdmaWrite; break;
    case wire::Opcode::kRcReadRequest:
      opcode = WrOpcode::kRdmaRead;
      length = headers.reth.length;
      break;
    default: return;  // an answer
  }
  QueuePair& qp = sender_of(packet);
  const size_t offset = reserve(length);
  const uint64_t wr_id = ++last_wr_id_;
  std::copy(packet.payload.begin(), packet.payload.end(),
            memory_.begin() + static_cast<ptrdiff_t>(offset));
  expected_[wr_id] = {offset, packet.payload};
  if (opcode == WrOpcode::kRdmaRead) expected_[wr_id].bytes = answer_to(packet)->payload;

  FLEXINS_CHECK(application_->producer.has_room(1));
  pipe::SubmissionSlot& slot = application_->producer.slot(0);
  slot.qpn = qp.endpoint.qpn.value;
  slot.kind = static_cast<uint8_t>(pipe::SubmissionKind::kSend);
  slot.opcode = static_cast<uint8_t>(opcode);
  slot.flags = base::kSendSignaled;
  if (headers.bth.solicited) slot.flags |= base::kSendSolicited;
  slot.wr_id = wr_id;
  slot.remote_address = headers.reth.address;
  slot.remote_key = headers.reth.key;
  if (qp.agreed.type == QpType::kDatagram) {
    slot.remote_address =
        pipe::pack_datagram_address({address_handle().value, qp.agreed.remote_qpn});
    slot.remote_key = headers.deth.qkey;
  }
  std::memcpy(&slot.immediate, &headers.immediate, sizeof slot.immediate);
  slot.inline_length = 0;
  slot.sge_count = 1;
  slot.first_sge = {iova(offset), length, key_.value};
  slot.slot_count = 1;
  application_->producer.publish(1);
}

ConversationEnd::QueuePair& ConversationEnd::sender_of(const Captured& packet) {
  if (is_datagram(packet)) return qps_.at(packet.headers.deth.source.value);
  for (auto& [number, qp] : qps_) {
    if (qp.agreed.remote_qpn == packet.headers.bth.destination.value) return qp;
  }
  FLEXINS_CHECK(false);
  return qps_.begin()->second;
}

base::AhId ConversationEnd::address_handle() {
  if (!address_handle_) {
    base::AddressVector to;
    to.destination_gid = (role_ == Role::kClient ? capture_.server : capture_.client).bytes;
    to.is_global = 1;
    to.port_number = 1;
    address_handle_ = host_->engine->create_ah(application_->context, application_->pd, to).value();
  }
  return *address_handle_;
}

}  // namespace flexins::interop
