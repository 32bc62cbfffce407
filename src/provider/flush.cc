#include <mutex>

#include "provider/qp.h"

namespace flexins::provider {
namespace {

ibv_wc_opcode completion_opcode(base::WrOpcode opcode) {
  switch (opcode) {
    case base::WrOpcode::kRdmaWrite:
    case base::WrOpcode::kRdmaWriteWithImmediate: return IBV_WC_RDMA_WRITE;
    case base::WrOpcode::kRdmaRead: return IBV_WC_RDMA_READ;
    case base::WrOpcode::kCompareSwap: return IBV_WC_COMP_SWAP;
    case base::WrOpcode::kFetchAdd: return IBV_WC_FETCH_ADD;
    case base::WrOpcode::kLocalInvalidate: return IBV_WC_LOCAL_INV;
    case base::WrOpcode::kBindMw: return IBV_WC_BIND_MW;
    case base::WrOpcode::kAtomicWrite: return IBV_WC_ATOMIC_WRITE;
    case base::WrOpcode::kSend:
    case base::WrOpcode::kSendWithImmediate:
    case base::WrOpcode::kSendWithInvalidate: break;
  }
  return IBV_WC_SEND;
}

void flushed(ibv_wc& wc, const Qp& qp, uint64_t wr_id, ibv_wc_opcode opcode) {
  wc = ibv_wc{};
  wc.wr_id = wr_id;
  wc.status = IBV_WC_WR_FLUSH_ERR;
  wc.opcode = opcode;
  wc.qp_num = qp.qpn;
}

int flush_sends(Qp& qp, int count, ibv_wc* wc) {
  const std::lock_guard lock(qp.ring->lock);
  uint32_t retired = qp.sends_retired.load(std::memory_order_relaxed);
  int done = 0;
  for (; done < count && retired != qp.sends_posted; ++retired) {
    const SendRecord& record = qp.sends[retired & qp.sends_mask];
    flushed(wc[done++], qp, record.wr_id, completion_opcode(record.opcode));
  }
  qp.sends_retired.store(retired, std::memory_order_release);
  return done;
}

/// An SRQ's entries belong to no QP: they are not flushed.
int flush_receives(Qp& qp, int count, ibv_wc* wc) {
  if (!qp.has_receive_ring()) return 0;
  const std::lock_guard lock(qp.receive_lock);
  uint32_t retired = qp.receives_retired.load(std::memory_order_relaxed);
  int done = 0;
  for (; done < count && retired != qp.receives.position(); ++retired) {
    flushed(wc[done++], qp, qp.receives.wr_id_at(retired), IBV_WC_RECV);
  }
  qp.receives_retired.store(retired, std::memory_order_release);
  return done;
}

bool sends_outstanding(Qp& qp) {
  const std::lock_guard lock(qp.ring->lock);
  return qp.sends_posted != qp.sends_retired.load(std::memory_order_relaxed);
}

bool receives_outstanding(Qp& qp) {
  if (!qp.has_receive_ring()) return false;
  const std::lock_guard lock(qp.receive_lock);
  return qp.receives.position() != qp.receives_retired.load(std::memory_order_relaxed);
}

}  // namespace

int flush_dead(Cq& cq, int count, ibv_wc* wc) {
  int done = 0;
  for (const auto& [qpn, qp] : cq.qps.entries()) {
    if (qp->send_cq == &cq) done += flush_sends(*qp, count - done, wc + done);
    if (qp->receive_cq == &cq) done += flush_receives(*qp, count - done, wc + done);
  }
  return done;
}

bool anything_to_flush(Cq& cq) {
  if (cq.consumer.front() != nullptr) return true;
  for (const auto& [qpn, qp] : cq.qps.entries()) {
    if (qp->send_cq == &cq && sends_outstanding(*qp)) return true;
    if (qp->receive_cq == &cq && receives_outstanding(*qp)) return true;
  }
  return false;
}

}  // namespace flexins::provider
