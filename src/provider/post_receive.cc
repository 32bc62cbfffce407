#include <errno.h>

#include <array>
#include <mutex>

#include "pipe/entry_writer.h"
#include "provider/qp.h"

namespace flexins::provider {
namespace {

/// Under receive_lock.
int post_one(Qp& qp, const ibv_recv_wr& wr) {
  if (wr.num_sge < 0 || static_cast<uint32_t>(wr.num_sge) > qp.cap.max_recv_sge) return EINVAL;
  const uint32_t outstanding =
      qp.receives.position() - qp.receives_retired.load(std::memory_order_acquire);
  if (outstanding >= qp.cap.max_recv_wr) return ENOMEM;
  write_receive(qp.receives, wr);
  return 0;
}

/// The engine has stopped looking at this receive ring by itself.
void kick(Qp& qp) {
  SubmissionRing& ring = *qp.ring;
  const std::lock_guard lock(ring.lock);
  if (!ring.producer.has_room(1) && !qp.context->wait_for_room(ring, 1)) return;
  pipe::EntryWriter writer([&ring](uint32_t i) -> auto& { return ring.producer.slot(i); });
  writer.head(qp.qpn, pipe::SubmissionKind::kReceiveKick, pipe::SendHead{});
  ring.producer.publish(writer.finish(false));
}

}  // namespace

void write_receive(pipe::ReceiveProducer& ring, const ibv_recv_wr& wr) {
  std::array<base::Sge, base::Limits::kMaxSge> elements;
  const auto count = static_cast<size_t>(wr.num_sge);
  for (size_t i = 0; i < count; ++i) {
    elements[i] = {wr.sg_list[i].addr, wr.sg_list[i].length, wr.sg_list[i].lkey};
  }
  ring.write(wr.wr_id, std::span(elements).first(count));
}

int post_receive(ibv_qp* face, ibv_recv_wr* first, ibv_recv_wr** bad) {
  return post_receives(Qp::of(face), first, bad);
}

int post_receives(Qp& qp, ibv_recv_wr* first, ibv_recv_wr** bad) {
  int error = qp.context->live() ? 0 : EIO;
  if (!qp.has_receive_ring() || qp.state.load(std::memory_order_acquire) == base::QpState::kReset) {
    error = EINVAL;
  }
  ibv_recv_wr* wr = first;
  bool wants_kick = false;
  if (error == 0) {
    const std::lock_guard lock(qp.receive_lock);
    for (; wr != nullptr; wr = wr->next) {
      error = post_one(qp, *wr);
      if (error != 0) break;
    }
    if (wr != first) {
      qp.receives.publish();
      std::atomic_thread_fence(std::memory_order_seq_cst);
      wants_kick = qp.receives.needs_kick();
    }
  }
  if (error != 0) *bad = wr;
  if (wants_kick) {
    kick(qp);
    qp.context->wake_engine_if_asleep();
  }
  return error;
}

}  // namespace flexins::provider
