#include "provider/post_send.h"

#include <errno.h>

#include <mutex>

#include "pipe/entry_writer.h"

namespace flexins::provider {
namespace {

struct Payload {
  uint64_t bytes = 0;
  uint32_t slots = 0;
  bool is_inline = false;
};

bool is_atomic(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_ATOMIC_CMP_AND_SWP || opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
}

bool is_local(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_LOCAL_INV || opcode == IBV_WR_BIND_MW;
}

/// What hardware providers check before they take a work request. 0 or EINVAL.
int examine(const Qp& qp, const ibv_send_wr& wr, Payload& payload) {
  if (!known_opcode(qp.type, wr.opcode)) return EINVAL;
  if (qp.type == base::QpType::kDatagram && wr.wr.ud.ah == nullptr) return EINVAL;
  if ((wr.send_flags & IBV_SEND_IP_CSUM) != 0) return EINVAL;
  if (wr.num_sge < 0 || static_cast<uint32_t>(wr.num_sge) > qp.cap.max_send_sge) return EINVAL;
  if (is_local(wr.opcode)) {
    payload.slots = wr.opcode == IBV_WR_BIND_MW ? 2 : 1;
    return wr.num_sge == 0 && (wr.opcode != IBV_WR_BIND_MW || wr.bind_mw.mw != nullptr) ? 0
                                                                                        : EINVAL;
  }
  for (int i = 0; i < wr.num_sge; ++i) payload.bytes += wr.sg_list[i].length;
  payload.is_inline = (wr.send_flags & IBV_SEND_INLINE) != 0;
  if (is_atomic(wr.opcode)) {
    if (payload.is_inline || wr.num_sge != 1 || wr.wr.atomic.remote_addr % 8 != 0) return EINVAL;
    payload.slots = 2;
    return 0;
  }
  if (payload.is_inline) {
    if (wr.opcode == IBV_WR_RDMA_READ || payload.bytes > qp.cap.max_inline_data) return EINVAL;
  } else if (payload.bytes > base::Limits::kMaxMessageBytes) {
    return EINVAL;
  }
  if (wr.opcode == IBV_WR_ATOMIC_WRITE && (payload.bytes != 8 || wr.wr.rdma.remote_addr % 8 != 0)) {
    return EINVAL;
  }
  const size_t stored = payload.is_inline ? static_cast<size_t>(payload.bytes)
                                          : static_cast<size_t>(wr.num_sge) * sizeof(base::Sge);
  payload.slots = pipe::EntryWriter<int>::slots_for(stored);
  return 0;
}

pipe::SendHead head_of(const Qp& qp, const ibv_send_wr& wr) {
  if (is_local(wr.opcode)) {
    constexpr unsigned kMeaningful = IBV_SEND_FENCE | IBV_SEND_SIGNALED;
    pipe::SendHead head;
    head.wr_id = wr.wr_id;
    head.opcode = static_cast<base::WrOpcode>(wr.opcode);
    head.flags = static_cast<uint8_t>(wr.send_flags & kMeaningful);
    head.immediate = wr.invalidate_rkey;
    if (wr.opcode == IBV_WR_BIND_MW) {
      head.remote_address = wr.bind_mw.bind_info.addr;
      head.remote_key = wr.bind_mw.rkey;
      head.immediate = wr.bind_mw.mw->rkey;
    }
    return head;
  }
  constexpr unsigned kPassedOn =
      IBV_SEND_FENCE | IBV_SEND_SIGNALED | IBV_SEND_SOLICITED | IBV_SEND_INLINE;
  const bool datagram = qp.type == base::QpType::kDatagram;
  return pipe::SendHead{
      wr.wr_id,
      datagram ? pipe::pack_datagram_address({wr.wr.ud.ah->handle, wr.wr.ud.remote_qpn})
               : wr.wr.rdma.remote_addr,
      datagram               ? wr.wr.ud.remote_qkey
      : is_atomic(wr.opcode) ? wr.wr.atomic.rkey
                             : wr.wr.rdma.rkey,
      wr.imm_data,
      static_cast<base::WrOpcode>(wr.opcode),
      static_cast<uint8_t>(wr.send_flags & kPassedOn),
      qp.type == base::QpType::kXrcSend ? wr.qp_type.xrc.remote_srqn : 0};
}

/// Under the ring's lock.
int post_one(Qp& qp, const ibv_send_wr& wr) {
  Payload payload;
  if (const int error = examine(qp, wr, payload); error != 0) return error;
  if (!send_queue_has_room(qp, 1)) return ENOMEM;
  SubmissionRing& ring = *qp.ring;
  if (!ring.producer.has_room(payload.slots) && !qp.context->wait_for_room(ring, payload.slots)) {
    return EIO;
  }
  pipe::EntryWriter writer([&ring](uint32_t i) -> auto& { return ring.producer.slot(i); });
  writer.head(qp.qpn, pipe::SubmissionKind::kSend, head_of(qp, wr));
  for (int i = 0; i < wr.num_sge; ++i) {
    const ibv_sge& sge = wr.sg_list[i];
    if (payload.is_inline) {
      writer.append(reinterpret_cast<const void*>(sge.addr), sge.length);
    } else {
      writer.sge(sge.addr, sge.length, sge.lkey);
    }
  }
  if (is_atomic(wr.opcode)) {
    writer.operands(pipe::AtomicOperands{wr.wr.atomic.compare_add, wr.wr.atomic.swap});
  }
  if (wr.opcode == IBV_WR_BIND_MW) {
    writer.operands(bind_operands(wr.bind_mw.bind_info));
    wr.bind_mw.mw->rkey = wr.bind_mw.rkey;
  }
  ring.producer.publish(writer.finish(payload.is_inline));
  remember_send(qp, wr.wr_id, static_cast<base::WrOpcode>(wr.opcode));
  return 0;
}

}  // namespace

int check_may_send(const Qp& qp) {
  switch (qp.state.load(std::memory_order_acquire)) {
    case base::QpState::kReset:
    case base::QpState::kInit:
    case base::QpState::kReadyToReceive: return EINVAL;
    default: return qp.context->live() ? 0 : EIO;
  }
}

bool known_opcode(base::QpType type, ibv_wr_opcode opcode) {
  if (type == base::QpType::kXrcReceive) return false;
  if (type == base::QpType::kRawPacket) return opcode == IBV_WR_SEND;
  if (type == base::QpType::kDatagram) {
    return opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM;
  }
  switch (opcode) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
    case IBV_WR_SEND:
    case IBV_WR_SEND_WITH_IMM: return true;
    case IBV_WR_RDMA_READ:
    case IBV_WR_ATOMIC_CMP_AND_SWP:
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
    case IBV_WR_ATOMIC_WRITE:
    case IBV_WR_BIND_MW:
    case IBV_WR_LOCAL_INV:
    case IBV_WR_SEND_WITH_INV: return base::is_reliable(type);
    default: return false;
  }
}

pipe::BindOperands bind_operands(const ibv_mw_bind_info& info) {
  return {info.length, info.mr != nullptr ? info.mr->lkey : 0, info.mw_access_flags};
}

bool send_queue_has_room(const Qp& qp, uint32_t count) {
  const uint32_t outstanding = qp.sends_posted - qp.sends_retired.load(std::memory_order_acquire);
  return outstanding + count <= qp.cap.max_send_wr;
}

void remember_send(Qp& qp, uint64_t wr_id, base::WrOpcode opcode) {
  qp.sends[qp.sends_posted & qp.sends_mask] = SendRecord{wr_id, opcode};
  ++qp.sends_posted;
}

int post_send(ibv_qp* face, ibv_send_wr* first, ibv_send_wr** bad) {
  Qp& qp = Qp::of(face);
  int error = check_may_send(qp);
  ibv_send_wr* wr = first;
  if (error == 0) {
    const std::lock_guard lock(qp.ring->lock);
    for (; wr != nullptr; wr = wr->next) {
      error = post_one(qp, *wr);
      if (error != 0) break;
    }
  }
  if (error != 0) *bad = wr;
  if (wr != first) qp.context->wake_engine_if_asleep();
  return error;
}

}  // namespace flexins::provider
