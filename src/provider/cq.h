#pragma once

#include <atomic>
#include <vector>

#include "pipe/completion_ring.h"
#include "provider/abi.h"
#include "provider/context.h"
#include "provider/shared_memory.h"
#include "provider/spin_lock.h"

namespace flexins::provider {

struct Qp;

/// Vectors are a hint for spreading interrupts over cores. One worker raises all our events, so any
/// vector is as good as another; programs that spread their CQs want to see a few.
inline constexpr int kCompletionVectors = 8;

/// How empty polls back off: a program that spins on its CQ competes for the core with the engine
/// that is to fill it. The first polls cost nothing; then each gives the core away.
inline constexpr uint32_t kEmptyPollsBeforeYield = 64;
/// Empty polls between two looks at the clock that decide whether to ask if the engine lives.
inline constexpr uint32_t kEmptyPollsPerLivenessCheck = 8;

/// The QPs that complete into a CQ, by number. Changed rarely, searched for each completion.
class QpTable {
 public:
  void insert(Qp* qp);
  void erase(Qp* qp);
  [[nodiscard]] Qp* find(uint32_t qpn);
  [[nodiscard]] const auto& entries() const { return entries_; }

 private:
  struct Entry {
    uint32_t qpn;
    Qp* qp;
  };
  std::vector<Entry> entries_;  ///< sorted by qpn
  Entry last_{0, nullptr};      ///< found last
};

struct Cq {
  verbs_cq face{};  ///< first: libibverbs' pointer is ours
  Context* context = nullptr;
  uint32_t id = 0;
  int channel_fd = -1;
  SharedMemory memory;
  /// Events that libibverbs has handed to the program.
  std::atomic<uint32_t> completion_events_reported{0};
  std::atomic<uint32_t> async_events_reported{0};

  SpinLock lock;  ///< of all below
  pipe::CompletionConsumer consumer;
  QpTable qps;
  uint32_t empty_polls = 0;
  // Of an extended CQ: the completion that its readers show.
  ibv_wc current{};
  uint64_t current_timestamp_ns = 0;

  bool single_threaded = false;  ///< the program promises to poll from one thread at a time

  static Cq& of(ibv_cq* face) { return *reinterpret_cast<Cq*>(face); }
  [[nodiscard]] pipe::CompletionRingHeader& header() const {
    return *reinterpret_cast<pipe::CompletionRingHeader*>(memory.base());
  }
};

/// Under `cq.lock`, engine gone: completes up to `count` outstanding work requests of the CQ's QPs
/// with a flush error, each once, in order. Returns how many.
int flush_dead(Cq& cq, int count, ibv_wc* wc);
/// Under `cq.lock`: would flush_dead complete anything?
bool anything_to_flush(Cq& cq);

/// Under `cq.lock`: takes up to `count` completions. `timestamp_ns`, if not null, gets the time of
/// the last. Returns how many, or -errno; `yield` says that the program should give its core away.
int poll_locked(Cq& cq, int count, ibv_wc* wc, uint64_t* timestamp_ns, bool& yield);

ibv_cq* create_cq(ibv_context* context, int depth, ibv_comp_channel* channel, int vector);
ibv_cq_ex* create_cq_ex(ibv_context* context, ibv_cq_init_attr_ex* attributes);
/// Fills in the polling functions and readers that `wc_flags` asks for.
void enable_extended_polling(Cq& cq, uint64_t wc_flags);
/// IBV_CREATE_CQ_SUP_WC_FLAGS that an extended CQ can be asked for.
inline constexpr uint64_t kSupportedWcFlags =
    uint64_t{IBV_WC_STANDARD_FLAGS} | uint64_t{IBV_WC_EX_WITH_COMPLETION_TIMESTAMP} |
    uint64_t{IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK};
int modify_cq(ibv_cq* cq, ibv_modify_cq_attr* attributes);
int resize_cq(ibv_cq* cq, int depth);
int destroy_cq(ibv_cq* cq);
int poll_cq(ibv_cq* cq, int count, ibv_wc* wc);
int request_notify_cq(ibv_cq* cq, int solicited_only);
void on_completion_event(ibv_cq* cq);

}  // namespace flexins::provider
