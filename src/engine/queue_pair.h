#pragma once

#include <memory>

#include "base/intrusive_queue.h"
#include "engine/completion_queue.h"
#include "engine/engine.h"
#include "engine/pacer.h"
#include "engine/shared_receives.h"
#include "engine/spread_table.h"
#include "pipe/receive_ring.h"
#include "transport/qp.h"
#include "transport/timer_wheel.h"

namespace flexins::engine {

struct Context;
struct Peer;

/// Receive work requests of one QP, read from its ring on demand.
class RingReceives final : public transport::ReceiveSource {
 public:
  explicit RingReceives(pipe::ReceiveConsumer ring) : ring_(ring) {}
  [[nodiscard]] bool take(transport::ReceiveWqe& out) noexcept override {
    return ring_.take(out.wr_id, out.sge, out.sge_count);
  }
  pipe::ReceiveConsumer& ring() { return ring_; }

 private:
  pipe::ReceiveConsumer ring_;
};

/// Stamps a QP's completions with its generation on their way to a CQ.
class QpCompletions final : public transport::CompletionSink {
 public:
  QpCompletions(CompletionQueue* cq, const uint32_t* generation)
      : cq_(cq), generation_(generation) {}
  void complete(const transport::Completion& completion) noexcept override {
    cq_->push(completion, *generation_);
  }
  [[nodiscard]] CompletionQueue* cq() const { return cq_; }

 private:
  CompletionQueue* cq_;
  const uint32_t* generation_;
};

/// A QP as the engine holds it: the transport's state machine and what ties it to its application,
/// its peer, the scheduler and the timers.
struct QueuePair final : transport::QpObserver {
  QueuePair(Context* owner, const CreateQp& request, CompletionQueue* send_cq,
            CompletionQueue* receive_cq, pipe::ReceiveConsumer ring)
      : context(owner),
        cookie(request.cookie),
        submission_ring(request.submission_ring),
        receives(ring),
        send_completions(send_cq, &generation),
        receive_completions(receive_cq, &generation) {}

  void on_async_event(base::Qpn qpn, base::AsyncEvent event) noexcept override;
  /// Each of its packets goes where its work request says.
  [[nodiscard]] bool is_datagram() const {
    return transport->config().type == base::QpType::kDatagram;
  }
  /// A receive work queue.
  [[nodiscard]] bool is_queue() const {
    return transport->config().type == base::QpType::kReceiveQueue;
  }
  /// Its packets are Ethernet frames.
  [[nodiscard]] bool is_raw() const { return transport->config().type == base::QpType::kRawPacket; }

  Context* context;
  uint64_t cookie;
  uint32_t submission_ring;
  uint32_t generation = 1;
  RingReceives receives;             ///< where there is no SRQ
  SharedReceives* shared = nullptr;  ///< the SRQ
  std::unique_ptr<Spread> spread;    ///< where it has no queues of its own, and stays in reset
  uint32_t table_entries = 0;        ///< of a receive work queue: entries of tables that name it
  QpCompletions send_completions;
  QpCompletions receive_completions;
  std::unique_ptr<transport::Qp> transport;

  /// Where all packets go, of a QP that is connected: it has a peer then.
  wire::Path path;
  Peer* peer = nullptr;

  transport::TimerNode timer;
  Pacer pacer;
  transport::TimerNode pacing_timer;
  QueuePair* next_ready = nullptr;  ///< in the context's queue of QPs that may have work
  bool is_ready = false;
  QueuePair* next_waiting = nullptr;  ///< in the peer's queue of QPs that its window blocks
  bool is_waiting = false;
  bool wants_kick = false;  ///< in error: the application tells us of new receives
};

/// What is known of one peer: the window that our QPs towards it share, and those that wait for it.
struct Peer {
  transport::PeerWindow window;
  base::IntrusiveQueue<QueuePair, &QueuePair::next_waiting, &QueuePair::is_waiting> waiting;
  uint32_t users = 0;
};

}  // namespace flexins::engine
