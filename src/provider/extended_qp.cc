#include "provider/extended_qp.h"

#include <errno.h>

#include <algorithm>
#include <mutex>

#include "provider/post_send.h"
#include "provider/stage.h"

namespace flexins::provider {

void SendStage::begin(uint32_t qpn, const pipe::SendHead& head) {
  if (error_ != 0) return;
  if (used_ + slots_per_entry_ > capacity_) return fail(ENOMEM);
  current_ = used_;
  writer_.emplace(ContiguousSlots{&slots_[current_]});
  writer_->head(qpn, pipe::SubmissionKind::kSend, head);
  ++entries_;
  finish(false);
}

void SendStage::set_datagram_address(pipe::DatagramAddress to, uint32_t qkey) {
  if (!writer_) return;
  slots_[current_].remote_address = pipe::pack_datagram_address(to);
  slots_[current_].remote_key = qkey;
}

void SendStage::finish(bool is_inline) {
  if (!writer_) return;
  if (is_inline) slots_[current_].flags |= base::kSendInline;
  used_ = current_ + writer_->finish(is_inline);
}

namespace {

Qp& of(ibv_qp_ex* face) { return Qp::of(&face->qp_base); }

void begin(ibv_qp_ex* face, base::WrOpcode opcode, uint64_t address, uint32_t key,
           uint32_t immediate) {
  // Inline data announces itself when it is set.
  constexpr unsigned kPassedOn = IBV_SEND_FENCE | IBV_SEND_SIGNALED | IBV_SEND_SOLICITED;
  Qp& qp = of(face);
  qp.stage->begin(qp.qpn, pipe::SendHead{face->wr_id, address, key, immediate, opcode,
                                         static_cast<uint8_t>(face->wr_flags & kPassedOn), 0});
}

void rdma_write(ibv_qp_ex* face, uint32_t key, uint64_t address) {
  begin(face, base::WrOpcode::kRdmaWrite, address, key, 0);
}
void rdma_write_immediate(ibv_qp_ex* face, uint32_t key, uint64_t address, __be32 immediate) {
  begin(face, base::WrOpcode::kRdmaWriteWithImmediate, address, key, immediate);
}
void rdma_read(ibv_qp_ex* face, uint32_t key, uint64_t address) {
  begin(face, base::WrOpcode::kRdmaRead, address, key, 0);
}
void send(ibv_qp_ex* face) { begin(face, base::WrOpcode::kSend, 0, 0, 0); }
void send_immediate(ibv_qp_ex* face, __be32 immediate) {
  begin(face, base::WrOpcode::kSendWithImmediate, 0, 0, immediate);
}

void atomic(ibv_qp_ex* face, base::WrOpcode opcode, uint32_t key, uint64_t address,
            const pipe::AtomicOperands& operands) {
  if (address % 8 != 0) return of(face).stage->fail(EINVAL);
  begin(face, opcode, address, key, 0);
  of(face).stage->add_operands(operands);
}
void atomic_compare_swap(ibv_qp_ex* face, uint32_t key, uint64_t address, uint64_t compare,
                         uint64_t swap) {
  atomic(face, base::WrOpcode::kCompareSwap, key, address, {compare, swap});
}
void atomic_fetch_add(ibv_qp_ex* face, uint32_t key, uint64_t address, uint64_t add) {
  atomic(face, base::WrOpcode::kFetchAdd, key, address, {add, 0});
}

void atomic_write(ibv_qp_ex* face, uint32_t key, uint64_t address, const void* data) {
  if (address % 8 != 0) return of(face).stage->fail(EINVAL);
  begin(face, base::WrOpcode::kAtomicWrite, address, key, 0);
  of(face).stage->add_inline(data, 8);
}

void bind_window(ibv_qp_ex* face, ibv_mw* mw, uint32_t key, const ibv_mw_bind_info* info) {
  begin(face, base::WrOpcode::kBindMw, info->addr, key, mw->rkey);
  of(face).stage->add_operands(bind_operands(*info));
  mw->rkey = key;
}
void local_invalidate(ibv_qp_ex* face, uint32_t key) {
  begin(face, base::WrOpcode::kLocalInvalidate, 0, 0, key);
}
void send_invalidate(ibv_qp_ex* face, uint32_t key) {
  begin(face, base::WrOpcode::kSendWithInvalidate, 0, 0, key);
}

/// Whether the request under construction may have so many elements, or inline data for 0: what an
/// atomic finds goes to exactly one, and some requests bring all that they have.
bool takes_elements(const SendStage& stage, size_t count) {
  switch (stage.opcode()) {
    case base::WrOpcode::kCompareSwap:
    case base::WrOpcode::kFetchAdd: return count == 1;
    case base::WrOpcode::kAtomicWrite:
    case base::WrOpcode::kBindMw:
    case base::WrOpcode::kLocalInvalidate: return false;
    default: return true;
  }
}

void set_ud_address(ibv_qp_ex* face, ibv_ah* ah, uint32_t qpn, uint32_t qkey) {
  if (ah == nullptr) return of(face).stage->fail(EINVAL);
  of(face).stage->set_datagram_address({ah->handle, qpn}, qkey);
}

void set_xrc_srqn(ibv_qp_ex* face, uint32_t srqn) { of(face).stage->set_remote_srqn(srqn); }

void set_sge_list(ibv_qp_ex* face, size_t count, const ibv_sge* list) {
  Qp& qp = of(face);
  if (count > qp.cap.max_send_sge) return qp.stage->fail(EINVAL);
  if (!takes_elements(*qp.stage, count)) return qp.stage->fail(EINVAL);
  uint64_t bytes = 0;
  for (size_t i = 0; i < count; ++i) bytes += list[i].length;
  if (bytes > base::Limits::kMaxMessageBytes) return qp.stage->fail(EINVAL);
  for (size_t i = 0; i < count; ++i) {
    qp.stage->add_sge(list[i].addr, list[i].length, list[i].lkey);
  }
}
void set_sge(ibv_qp_ex* face, uint32_t key, uint64_t address, uint32_t length) {
  const ibv_sge one{address, length, key};
  set_sge_list(face, 1, &one);
}

void set_inline_list(ibv_qp_ex* face, size_t count, const ibv_data_buf* list) {
  Qp& qp = of(face);
  if (!takes_elements(*qp.stage, 0)) return qp.stage->fail(EINVAL);
  size_t left = qp.cap.max_inline_data;
  for (size_t i = 0; i < count; ++i) {
    if (list[i].length > left) return qp.stage->fail(EINVAL);
    left -= list[i].length;
  }
  for (size_t i = 0; i < count; ++i) qp.stage->add_inline(list[i].addr, list[i].length);
}
void set_inline(ibv_qp_ex* face, void* address, size_t length) {
  const ibv_data_buf one{address, length};
  set_inline_list(face, 1, &one);
}

/// Under the ring's lock.
int publish(Qp& qp, const pipe::SubmissionSlot* entry) {
  SubmissionRing& ring = *qp.ring;
  const uint32_t count = entry->slot_count;
  if (!ring.producer.has_room(count) && !qp.context->wait_for_room(ring, count)) return EIO;
  const auto copy = [&ring](uint32_t i, const pipe::SubmissionSlot& from, size_t bytes) {
    std::memcpy(static_cast<void*>(&ring.producer.slot(i)), static_cast<const void*>(&from), bytes);
  };
  copy(0, entry[0], offsetof(pipe::SubmissionSlot, sequence));
  for (uint32_t i = 1; i < count; ++i) copy(i, entry[i], pipe::kSlotBytes);
  ring.producer.publish(count);
  remember_send(qp, entry->wr_id, static_cast<base::WrOpcode>(entry->opcode));
  return 0;
}

int publish_batch(Qp& qp) {
  const SendStage& stage = *qp.stage;
  if (stage.error() != 0) return stage.error();
  if (const int error = check_may_send(qp); error != 0) return error;
  const std::lock_guard lock(qp.ring->lock);
  if (!send_queue_has_room(qp, stage.entries())) return ENOMEM;
  const pipe::SubmissionSlot* entry = stage.slots();
  for (uint32_t i = 0; i < stage.entries(); ++i) {
    if (const int error = publish(qp, entry); error != 0) return error;
    entry += entry->slot_count;
  }
  return 0;
}

void start(ibv_qp_ex* face) { of(face).stage->open(); }
int complete(ibv_qp_ex* face) {
  Qp& qp = of(face);
  const int error = publish_batch(qp);
  qp.stage->close();
  if (error == 0) qp.context->wake_engine_if_asleep();
  return error;
}
void abort_batch(ibv_qp_ex* face) { of(face).stage->close(); }

}  // namespace

bool enable_extended_sends(Qp& qp, uint64_t send_ops) {
  constexpr uint64_t kSends = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
  constexpr uint64_t kWrites = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM;
  constexpr uint64_t kReliable = IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
                                 IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | IBV_QP_EX_WITH_ATOMIC_WRITE |
                                 IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_LOCAL_INV |
                                 IBV_QP_EX_WITH_SEND_WITH_INV;
  const bool reliable = base::is_reliable(qp.type);
  const bool connected = reliable || qp.type == base::QpType::kUnreliable;
  uint64_t ours = qp.type == base::QpType::kRawPacket ? uint64_t{IBV_QP_EX_WITH_SEND} : kSends;
  if (connected) ours |= kWrites;
  if (reliable) ours |= kReliable;
  if ((send_ops & ~ours) != 0) return false;
  const size_t payload =
      std::max<size_t>(qp.cap.max_send_sge * sizeof(base::Sge), qp.cap.max_inline_data);
  qp.stage = std::make_unique<SendStage>(qp.cap.max_send_wr,
                                         std::max(pipe::EntryWriter<int>::slots_for(payload), 2u));
  ibv_qp_ex& face = qp.face.qp_ex;
  face.wr_atomic_cmp_swp = atomic_compare_swap;
  face.wr_atomic_fetch_add = atomic_fetch_add;
  face.wr_atomic_write = atomic_write;
  face.wr_bind_mw = bind_window;
  face.wr_local_inv = local_invalidate;
  face.wr_rdma_write = rdma_write;
  face.wr_rdma_write_imm = rdma_write_immediate;
  face.wr_rdma_read = rdma_read;
  face.wr_send = send;
  face.wr_send_imm = send_immediate;
  face.wr_send_inv = send_invalidate;
  face.wr_set_ud_addr = set_ud_address;
  face.wr_set_xrc_srqn = set_xrc_srqn;
  face.wr_set_sge = set_sge;
  face.wr_set_sge_list = set_sge_list;
  face.wr_set_inline_data = set_inline;
  face.wr_set_inline_data_list = set_inline_list;
  face.wr_start = start;
  face.wr_complete = complete;
  face.wr_abort = abort_batch;
  qp.face.comp_mask |= VERBS_QP_EX;
  return true;
}

}  // namespace flexins::provider
