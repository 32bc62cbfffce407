#include <algorithm>
#include <cstring>

#include "engine/engine_impl.h"

namespace flexins::engine {

namespace {

/// Operands of one entry, unpacked from its slots.
struct Operands {
  base::Sge sge[base::Limits::kMaxSge];
  alignas(16) std::byte inline_data[base::Limits::kMaxInlineBytes];
};

/// Further slots that an entry of this shape needs.
uint32_t slots_needed(const pipe::SubmissionSlot& head, bool has_operands) {
  constexpr uint32_t kSgePerSlot = pipe::kSlotBytes / sizeof(base::Sge);
  if (has_operands) return 2;
  if ((head.flags & base::kSendInline) != 0) {
    const uint32_t rest = head.inline_length <= 16 ? 0 : head.inline_length - 16u;
    return 1 + static_cast<uint32_t>((rest + pipe::kSlotBytes - 1) / pipe::kSlotBytes);
  }
  const uint32_t rest = head.sge_count <= 1 ? 0 : head.sge_count - 1u;
  return 1 + (rest + kSgePerSlot - 1) / kSgePerSlot;
}

bool is_atomic(uint8_t opcode) {
  return opcode == static_cast<uint8_t>(base::WrOpcode::kCompareSwap) ||
         opcode == static_cast<uint8_t>(base::WrOpcode::kFetchAdd);
}

bool is_bind(uint8_t opcode) { return opcode == static_cast<uint8_t>(base::WrOpcode::kBindMw); }

/// False when the entry contradicts itself.
bool unpack(const pipe::SubmissionEntry& entry, transport::SendWqe& wqe, Operands& operands) {
  const pipe::SubmissionSlot& head = entry.slots[0];
  const bool atomic = is_atomic(head.opcode);
  const bool bind = is_bind(head.opcode);
  if (head.sge_count > base::Limits::kMaxSge ||
      head.inline_length > base::Limits::kMaxInlineBytes || (atomic && head.sge_count > 1) ||
      (bind && head.sge_count > 0) || slots_needed(head, atomic || bind) > head.slot_count) {
    return false;
  }
  const auto* rest = reinterpret_cast<const std::byte*>(&entry.slots[1]);
  wqe.wr_id = head.wr_id;
  wqe.opcode = static_cast<base::WrOpcode>(head.opcode);
  wqe.flags = head.flags;
  wqe.immediate = head.immediate;
  wqe.remote_address = head.remote_address;
  wqe.remote_key = head.remote_key;
  wqe.remote_srqn = head.remote_srqn;
  if ((head.flags & base::kSendInline) != 0) {
    const size_t first = std::min<size_t>(head.inline_length, sizeof head.inline_head);
    std::memcpy(operands.inline_data, head.inline_head, first);
    std::memcpy(operands.inline_data + first, rest, head.inline_length - first);
    wqe.inline_length = head.inline_length;
    wqe.inline_data = operands.inline_data;
    return true;
  }
  wqe.sge_count = head.sge_count;
  wqe.sge = operands.sge;
  operands.sge[0] = head.first_sge;
  if (atomic) {
    pipe::AtomicOperands values;
    std::memcpy(&values, rest, sizeof values);
    wqe.compare_add = values.compare_add;
    wqe.swap = values.swap;
  } else if (bind) {
    pipe::BindOperands values;
    std::memcpy(&values, rest, sizeof values);
    wqe.compare_add = values.length;
    wqe.swap = uint64_t{values.access} << 32 | values.region_key;
  } else if (head.sge_count > 1) {
    std::memcpy(operands.sge + 1, rest, (head.sge_count - 1u) * sizeof(base::Sge));
  }
  return true;
}

/// What datagrams have in the place of a remote address. An address handle that does not exist or
/// belongs to another protection domain is the transport's to refuse, in its turn.
void unpack_destination(const Context& context, base::PdId pd, transport::SendWqe& wqe) {
  const pipe::DatagramAddress to = pipe::unpack_datagram_address(wqe.remote_address);
  const auto found = context.address_handles.find(to.address_handle);
  if (found != context.address_handles.end() && found->second.pd == pd) {
    wqe.target = &found->second.target;
  }
  wqe.remote_qpn = to.qpn;
  wqe.remote_qkey = wqe.remote_key;
}

}  // namespace

bool EngineImpl::poll_submissions(base::TimeNs now) {
  bool worked = false;
  for (auto& [id, context] : contexts_) {
    for (uint32_t ring = 0; ring < context->submission_rings.size(); ++ring) {
      pipe::SubmissionConsumer& consumer = context->submission_rings[ring];
      pipe::SubmissionEntry entry;
      size_t taken = 0;
      while (taken < kSubmissionsPerRing && consumer.take(entry)) {
        submit(*context, ring, entry, now);
        ++taken;
      }
      if (taken == 0) continue;
      consumer.release();
      worked = true;
    }
  }
  return worked;
}

void EngineImpl::submit(Context& context, uint32_t ring, const pipe::SubmissionEntry& entry,
                        base::TimeNs now) {
  const pipe::SubmissionSlot& head = entry.slots[0];
  const auto found = qps_.find(head.qpn);
  if (found == qps_.end() || found->second->context != &context ||
      found->second->submission_ring != ring) {
    ++counters_.submission_bad_qpn;
    return;
  }
  QueuePair& qp = *found->second;
  if (head.kind == static_cast<uint8_t>(pipe::SubmissionKind::kReceiveKick)) {
    qp.transport->flush_receives();
    return;
  }
  if (head.kind != static_cast<uint8_t>(pipe::SubmissionKind::kSend)) {
    ++counters_.submission_bad_kind;
    return;
  }
  transport::SendWqe wqe;
  Operands operands;
  if (!unpack(entry, wqe, operands)) {
    ++counters_.submission_bad_length;
    return;
  }
  if (qp.is_datagram()) unpack_destination(context, qp.transport->config().pd, wqe);
  ++counters_.work_requests;
  if (!qp.transport->post_send(wqe, now)) {
    // Our provider never posts to a full queue or in a wrong state; another program may.
    const bool takes_sends = qp.transport->state() >= base::QpState::kReadyToSend;
    ++(takes_sends ? counters_.submission_overflow : counters_.submission_refused);
    return;
  }
  after_activity(qp);
}

}  // namespace flexins::engine
