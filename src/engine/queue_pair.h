#pragma once

#include <memory>
#include <vector>

#include "base/intrusive_queue.h"
#include "engine/completion_queue.h"
#include "engine/engine.h"
#include "engine/event_count.h"
#include "engine/pacer.h"
#include "engine/shared_receives.h"
#include "engine/spread_table.h"
#include "pipe/receive_ring.h"
#include "transport/qp.h"
#include "transport/timer_wheel.h"

namespace flexins::engine {

struct Context;
struct Peer;
class XrcDomain;

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

/// Of a QP that has no receives, or whose requests each say where theirs come from.
class NoReceives final : public transport::ReceiveSource {
 public:
  [[nodiscard]] bool take(transport::ReceiveWqe&) noexcept override { return false; }
};

/// Stamps a QP's completions with its generation on their way to a CQ.
class QpCompletions final : public transport::CompletionSink {
 public:
  QpCompletions(CompletionQueue* cq, const uint32_t* generation)
      : cq_(cq), generation_(generation) {}
  void complete(const transport::Completion& completion) noexcept override {
    cq_->push(completion, *generation_);
  }
  /// Null where the QP has none: then nothing completes here.
  [[nodiscard]] CompletionQueue* cq() const { return cq_; }
  [[nodiscard]] bool overrun() const { return cq_ != nullptr && cq_->overrun(); }

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

  /// Without an SRQ, and not XRC.
  [[nodiscard]] bool has_receive_ring() const {
    return shared == nullptr && !base::is_xrc(transport->config().type);
  }

  /// Someone who has an XRC target open.
  struct Opener {
    Context* context;
    uint64_t cookie;
    base::XrcdId xrcd;  ///< its handle on the domain
    AsyncEvents events;
  };

  Context* context;  ///< of an XRC target: of one of its openers
  uint64_t cookie;
  AsyncEvents events;  ///< of all but XRC targets
  uint32_t submission_ring;
  uint32_t generation = 1;
  RingReceives receives;             ///< where there is no SRQ
  SharedReceives* shared = nullptr;  ///< the SRQ
  std::unique_ptr<Spread> spread;    ///< where it has no queues of its own, and stays in reset
  uint32_t table_entries = 0;        ///< of a receive work queue: entries of tables that name it
  NoReceives no_receives;
  XrcDomain* domain = nullptr;  ///< of an XRC target
  std::vector<Opener> openers;  ///< of an XRC target, never empty
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
