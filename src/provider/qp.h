#pragma once

#include <atomic>
#include <memory>

#include "base/verbs_types.h"
#include "pipe/receive_ring.h"
#include "provider/abi.h"
#include "provider/cq.h"
#include "provider/pd.h"

namespace flexins::provider {

/// The shortest send queue granted. RNICs round up too, and programs have come to lean on it:
/// perftest's latency tests ask for one request, and post the next when the answer of their peer
/// has arrived, which under loss can be before the acknowledgement.
inline constexpr uint32_t kLeastSendWr = 16;

/// What is remembered of a posted send work request, to complete it where the engine cannot.
struct SendRecord {
  uint64_t wr_id;
  base::WrOpcode opcode;
};

class SendStage;
struct Srq;

struct Qp {
  verbs_qp face{};      ///< first: libibverbs' pointer is ours
  uint64_t cookie = 0;  ///< what its async events name: the program's object
  Context* context = nullptr;
  Pd* domain = nullptr;      ///< the parent domain that it was made in, or null
  Cq* send_cq = nullptr;     ///< null: an XRC target, or without queues of its own (RSS)
  Cq* receive_cq = nullptr;  ///< null: either end of XRC, or RSS
  Srq* srq = nullptr;
  SubmissionRing* ring = nullptr;
  ibv_qp_cap cap{};
  bool signal_all = false;
  uint32_t rate_limit_kbps = 0;  ///< 0: none
  base::QpType type = base::QpType::kReliable;
  uint32_t qpn = 0;
  /// base::QpState as this program set it; the engine may have moved on to kError.
  std::atomic<base::QpState> state{base::QpState::kReset};
  /// Of completions that count; changed under both CQs' locks.
  uint32_t generation = 0;
  std::atomic<uint32_t> async_events_reported{0};

  // Send queue. Work requests posted minus retired, both modulo 2^32, are outstanding.
  DomainMemory sends_memory;
  SendRecord* sends = nullptr;  ///< in sends_memory, by posting number, under ring->lock
  uint32_t sends_mask = 0;
  uint32_t sends_posted = 0;               ///< under ring->lock
  std::atomic<uint32_t> sends_retired{0};  ///< written under send_cq->lock
  /// Work requests under construction through ibv_wr_*; null unless created for them.
  std::unique_ptr<SendStage> stage;

  // Receive queue, likewise; empty for ever where there is an SRQ.
  SpinLock receive_lock;
  SharedMemory receive_memory;
  pipe::ReceiveProducer receives;             ///< under receive_lock
  std::atomic<uint32_t> receives_retired{0};  ///< written under receive_cq->lock

  Qp();
  ~Qp();
  [[nodiscard]] bool has_receive_ring() const { return srq == nullptr && !base::is_xrc(type); }
  static Qp& of(ibv_qp* face) { return *reinterpret_cast<Qp*>(face); }
};

ibv_qp* create_qp(ibv_pd* pd, ibv_qp_init_attr* attributes);
ibv_qp* create_qp_ex(ibv_context* context, ibv_qp_init_attr_ex* attributes);
/// A target that this or another program has created.
ibv_qp* open_qp(ibv_context* context, ibv_qp_open_attr* attributes);
int modify_qp(ibv_qp* qp, ibv_qp_attr* attributes, int mask);
int query_qp(ibv_qp* qp, ibv_qp_attr* attributes, int mask, ibv_qp_init_attr* initial);
int destroy_qp(ibv_qp* qp);
int post_send(ibv_qp* qp, ibv_send_wr* first, ibv_send_wr** bad);
int post_receive(ibv_qp* qp, ibv_recv_wr* first, ibv_recv_wr** bad);

// Of queue pairs and of receive work queues, which are the half of one: 0 or an errno value.

/// The engine's half of creation, and the receive ring that comes with it.
int create_in_engine(Qp& qp, const ibv_pd* pd);
/// Its CQs learn of it: from now on they show its completions.
void enlist(Qp& qp);
void delist(Qp& qp);
/// Both sides begin anew: what the old life left in CQs is recognised by its generation.
void restart(Qp& qp, uint32_t generation);
int post_receives(Qp& qp, ibv_recv_wr* first, ibv_recv_wr** bad);

/// Copies a work request, whose elements fit, into a receive ring that has room. Not yet published.
void write_receive(pipe::ReceiveProducer& ring, const ibv_recv_wr& wr);

}  // namespace flexins::provider
