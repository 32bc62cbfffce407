#include <errno.h>
#include <sched.h>

#include <ctime>

#include "base/time.h"
#include "provider/cq.h"

// Extended completion queues: ibv_start_poll, ibv_next_poll, ibv_end_poll and the readers. Between
// start and end the CQ is locked, unless the program promised to use one thread. Each completion is
// copied out of the ring, so that its readers do not depend on how the ring goes on.

namespace flexins::provider {
namespace {

Cq& of(ibv_cq_ex* face) { return *reinterpret_cast<Cq*>(face); }

void lock(Cq& cq) {
  if (!cq.single_threaded) cq.lock.lock();
}
void unlock(Cq& cq) {
  if (!cq.single_threaded) cq.lock.unlock();
}

/// Makes the next completion the current one. 0, ENOENT when there is none, or another errno value.
int advance(Cq& cq, bool& yield) {
  const int taken = poll_locked(cq, 1, &cq.current, &cq.current_timestamp_ns, yield);
  if (taken < 0) return -taken;
  if (taken == 0) return ENOENT;
  cq.face.cq_ex.wr_id = cq.current.wr_id;
  cq.face.cq_ex.status = cq.current.status;
  return 0;
}

int start_poll(ibv_cq_ex* face, ibv_poll_cq_attr* attributes) {
  if (attributes->comp_mask != 0) return EINVAL;
  Cq& cq = of(face);
  lock(cq);
  bool yield = false;
  const int error = advance(cq, yield);
  if (error == 0) return 0;
  unlock(cq);
  if (yield) ::sched_yield();
  return error;
}

int next_poll(ibv_cq_ex* face) {
  bool ignored = false;
  return advance(of(face), ignored);
}

void end_poll(ibv_cq_ex* face) { unlock(of(face)); }

ibv_wc_opcode read_opcode(ibv_cq_ex* face) { return of(face).current.opcode; }
uint32_t read_vendor_err(ibv_cq_ex* face) { return of(face).current.vendor_err; }
uint32_t read_byte_len(ibv_cq_ex* face) { return of(face).current.byte_len; }
__be32 read_imm_data(ibv_cq_ex* face) { return of(face).current.imm_data; }
uint32_t read_qp_num(ibv_cq_ex* face) { return of(face).current.qp_num; }
uint32_t read_src_qp(ibv_cq_ex* face) { return of(face).current.src_qp; }
unsigned int read_wc_flags(ibv_cq_ex* face) { return of(face).current.wc_flags; }
uint32_t read_slid(ibv_cq_ex* face) { return of(face).current.slid; }
uint8_t read_sl(ibv_cq_ex* face) { return of(face).current.sl; }
uint8_t read_dlid_path_bits(ibv_cq_ex* face) { return of(face).current.dlid_path_bits; }
uint64_t read_completion_ts(ibv_cq_ex* face) { return of(face).current_timestamp_ns; }

uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * base::kSecond + static_cast<uint64_t>(now.tv_nsec);
}

/// The engine stamps with the monotonic clock, which no one sets; how far the wall clock is ahead
/// of it may change, so it is asked each time.
uint64_t read_completion_wallclock_ns(ibv_cq_ex* face) {
  const uint64_t ahead = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
  return of(face).current_timestamp_ns + ahead;
}

}  // namespace

void enable_extended_polling(Cq& cq, uint64_t wc_flags) {
  ibv_cq_ex& face = cq.face.cq_ex;
  face.start_poll = start_poll;
  face.next_poll = next_poll;
  face.end_poll = end_poll;
  face.read_opcode = read_opcode;
  face.read_vendor_err = read_vendor_err;
  face.read_wc_flags = read_wc_flags;
  if ((wc_flags & IBV_WC_EX_WITH_BYTE_LEN) != 0) face.read_byte_len = read_byte_len;
  if ((wc_flags & IBV_WC_EX_WITH_IMM) != 0) face.read_imm_data = read_imm_data;
  if ((wc_flags & IBV_WC_EX_WITH_QP_NUM) != 0) face.read_qp_num = read_qp_num;
  if ((wc_flags & IBV_WC_EX_WITH_SRC_QP) != 0) face.read_src_qp = read_src_qp;
  if ((wc_flags & IBV_WC_EX_WITH_SLID) != 0) face.read_slid = read_slid;
  if ((wc_flags & IBV_WC_EX_WITH_SL) != 0) face.read_sl = read_sl;
  if ((wc_flags & IBV_WC_EX_WITH_DLID_PATH_BITS) != 0) {
    face.read_dlid_path_bits = read_dlid_path_bits;
  }
  if ((wc_flags & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP) != 0) {
    face.read_completion_ts = read_completion_ts;
  }
  if ((wc_flags & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK) != 0) {
    face.read_completion_wallclock_ns = read_completion_wallclock_ns;
  }
}

}  // namespace flexins::provider
