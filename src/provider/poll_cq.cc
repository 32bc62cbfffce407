#include <errno.h>
#include <sched.h>

#include <ctime>
#include <mutex>

#include "base/time.h"
#include "provider/qp.h"

namespace flexins::provider {
namespace {

/// Notes what a completion says about its QP's queues. False: it is of a QP or of a life of it that
/// is no more, and must not be shown.
bool account(Cq& cq, const pipe::CompletionEntry& entry) {
  if (entry.generation == pipe::kNoGeneration) return true;
  Qp* qp = cq.qps.find(entry.qpn);
  if (qp == nullptr || entry.generation != qp->generation) return false;
  auto& retired = entry.is_send != 0 ? qp->sends_retired : qp->receives_retired;
  retired.store(entry.retired, std::memory_order_release);
  return true;
}

void translate(const pipe::CompletionEntry& entry, ibv_wc& wc) {
  wc = ibv_wc{};
  wc.wr_id = entry.wr_id;
  wc.status = static_cast<ibv_wc_status>(entry.status);
  wc.opcode = static_cast<ibv_wc_opcode>(entry.opcode);
  wc.vendor_err = entry.vendor_error;
  wc.byte_len = entry.byte_length;
  wc.imm_data = entry.immediate;
  wc.qp_num = entry.qpn;
  wc.src_qp = entry.source_qpn;
  wc.wc_flags = entry.wc_flags;
  wc.sl = entry.service_level;
}

int take(Cq& cq, int count, ibv_wc* wc, uint64_t* timestamp_ns) {
  int taken = 0;
  bool consumed = false;
  while (taken < count) {
    const pipe::CompletionEntry* entry = cq.consumer.front();
    if (entry == nullptr) break;
    if (account(cq, *entry)) {
      if (timestamp_ns != nullptr) *timestamp_ns = entry->timestamp_ns;
      translate(*entry, wc[taken++]);
    }
    cq.consumer.pop();
    consumed = true;
  }
  if (consumed) cq.consumer.release();
  return taken;
}

uint64_t monotonic_now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * base::kSecond + static_cast<uint64_t>(now.tv_nsec);
}

int poll_without_engine(Cq& cq, int count, ibv_wc* wc, uint64_t* timestamp_ns) {
  if (cq.context->state() == ContextState::kForeign) return -EIO;
  // It may have completed work between our look at the ring and its end.
  int taken = take(cq, count, wc, timestamp_ns);
  if (taken == count) return taken;
  if (timestamp_ns != nullptr) *timestamp_ns = monotonic_now_ns();
  taken += flush_dead(cq, count - taken, wc + taken);
  return taken;
}

}  // namespace

int poll_locked(Cq& cq, int count, ibv_wc* wc, uint64_t* timestamp_ns, bool& yield) {
  const int taken = take(cq, count, wc, timestamp_ns);
  if (taken > 0) {
    cq.empty_polls = 0;
    return taken;
  }
  if (count <= 0) return 0;
  if (cq.consumer.overflowed()) return -EOVERFLOW;
  const uint32_t polls = ++cq.empty_polls;
  const bool look = polls % kEmptyPollsPerLivenessCheck == 0;
  if (look ? !cq.context->check_liveness() : !cq.context->live()) {
    return poll_without_engine(cq, count, wc, timestamp_ns);
  }
  yield = polls > kEmptyPollsBeforeYield;
  return 0;
}

int poll_cq(ibv_cq* face, int count, ibv_wc* wc) {
  Cq& cq = Cq::of(face);
  bool yield = false;
  int taken = 0;
  {
    const std::lock_guard lock(cq.lock);
    taken = poll_locked(cq, count, wc, nullptr, yield);
  }
  if (yield) ::sched_yield();
  return taken;
}

}  // namespace flexins::provider
