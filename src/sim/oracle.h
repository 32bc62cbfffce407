#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "pipe/layout.h"
#include "sim/fabric.h"
#include "sim/ledger.h"

namespace flexins::sim {

/// The first thing that must never happen, and did.
struct Violation {
  std::string invariant;  ///< short, the same for the same kind
  std::string detail;
};

/// What was done, as applications saw it.
struct WorkCounts {
  uint64_t sends = 0;     ///< send work requests completed or retired with success
  uint64_t receives = 0;  ///< completed with success
  uint64_t failed = 0;    ///< completed with another status, flushes aside
  uint64_t flushed = 0;
  uint64_t bytes = 0;  ///< of payload, of successful send work requests
};

/// Judges every completion at the moment at which an engine publishes it, against what was asked
/// for and what the memory of both ends holds then. Knows nothing of how the work is chosen.
class Oracle {
 public:
  Oracle(const EventQueue& events, const Fabric& fabric, Trace& trace)
      : events_(events), fabric_(fabric), trace_(trace) {}

  QpLedger& open(QpLedger ledger);
  SrqLedger& open_srq(std::shared_ptr<Arena> arena);
  Counter& open_counter(std::shared_ptr<Arena> arena, uint64_t address, bool swaps);

  void posted(QpLedger& qp, SendRecord record);
  void posted(QpLedger& qp, ReceiveRecord record);
  void posted(SrqLedger& srq, ReceiveRecord record);
  /// The application has moved it to kError, or an event has said that it failed.
  void may_fail(QpLedger& qp, const char* why);
  void completed(QpLedger& qp, const pipe::CompletionEntry& entry);
  /// All CQs of a host have been looked at: what was said to be delivered has been.
  void check_owed();
  /// In error, and the engine has had its turn: nothing may be outstanding.
  void check_flushed(QpLedger& qp);
  /// It does not exist any more; nor does its peer: nothing of it is under way.
  void destroyed(QpLedger& qp);
  void pair_destroyed(QpLedger& qp);
  /// Its application or engine has died: nobody will see what becomes of it.
  void silence(QpLedger& qp);

  /// Both have done all: nothing outstanding, all messages delivered.
  [[nodiscard]] bool drained(const QpLedger& qp) const;

  void check_arena(const Arena& arena, const char* whose);
  void check_counters();

  void violate(const char* invariant, const QpLedger* qp, const std::string& detail);
  [[nodiscard]] bool broken() const { return violation_.has_value(); }
  [[nodiscard]] const std::optional<Violation>& violation() const { return violation_; }
  [[nodiscard]] const WorkCounts& counts() const { return counts_; }

 private:
  // oracle_sends.cc
  void send_completed(QpLedger& qp, const pipe::CompletionEntry& entry);
  void retire(QpLedger& qp, SendRecord& record, base::WcStatus status);
  void verify_success(QpLedger& qp, SendRecord& record);
  void settle_landings(QpLedger& qp, SendRecord& record, bool success);
  [[nodiscard]] bool may_end_so(const QpLedger& qp, const SendRecord& record,
                                base::WcStatus status) const;

  // oracle_receives.cc
  void receive_completed(QpLedger& qp, const pipe::CompletionEntry& entry);
  [[nodiscard]] bool may_end_so(const QpLedger& qp, base::WcStatus status) const;
  [[nodiscard]] std::optional<ReceiveRecord> take_receive(QpLedger& qp, uint64_t wr_id);
  void verify_message(QpLedger& qp, const ReceiveRecord& record,
                      const pipe::CompletionEntry& entry);
  [[nodiscard]] bool matches(const QpLedger& qp, const Message& message,
                             const ReceiveRecord& record, const pipe::CompletionEntry& entry) const;

  // oracle_atomics.cc
  void check_additions(Counter& counter);
  void check_swaps(Counter& counter);

  [[nodiscard]] bool forged(const QpLedger& qp) const;
  void free(QpLedger& qp, Arena& arena, const std::vector<Landing>& landings);

  const EventQueue& events_;
  const Fabric& fabric_;
  Trace& trace_;
  std::deque<QpLedger> qps_;
  std::deque<SrqLedger> srqs_;
  std::deque<Counter> counters_;
  std::vector<std::pair<QpLedger*, uint64_t>> owed_;
  std::optional<Violation> violation_;
  WorkCounts counts_;
};

/// Whether the bytes at `landings`, from `skip` on, are `content`.
[[nodiscard]] bool equal_bytes(const Arena& arena, const std::vector<Landing>& landings,
                               uint64_t skip, const std::vector<Content>& content);
/// Whether each byte is either the content's or poison still.
[[nodiscard]] bool partly_equal(const Arena& arena, const std::vector<Landing>& landings,
                                const std::vector<Content>& content);
/// Whether all from byte `from` on is poison.
[[nodiscard]] bool rest_is_poison(const Arena& arena, const std::vector<Landing>& landings,
                                  uint64_t from);

}  // namespace flexins::sim
