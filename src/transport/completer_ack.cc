#include <algorithm>

#include "transport/requester.h"

/// Progress of the oldest unacknowledged PSN.

namespace flexins::transport {

using base::Psn;
using wire::Opcode;

void Requester::on_response(const wire::Headers& headers, std::span<const iovec> payload,
                            uint32_t payload_length, base::TimeNs now) noexcept {
  const Psn oldest(static_cast<uint32_t>(unacked_));
  const uint64_t psn =
      unacked_ + static_cast<uint64_t>(static_cast<int64_t>(distance(headers.bth.psn, oldest)));
  if (psn < unacked_ || psn >= sent_end_) {
    ++core_.counters.dropped_received;
    return;
  }
  if (headers.bth.opcode == Opcode::kRcAcknowledge) {
    on_acknowledge(headers.aeth, psn, now);
  } else {
    on_data(headers, payload, payload_length, psn, now);
  }
}

void Requester::on_acknowledge(const wire::Aeth& aeth, uint64_t psn, base::TimeNs now) noexcept {
  switch (aeth.syndrome & 0xe0) {
    case 0x00:
      acknowledge_below(psn + 1, now);
      // The peer answers in order: the data that would have come before this was lost.
      if (unacked_ < known_) repeat_lost();
      return;
    case wire::kSyndromeRnr: on_rnr_nak(aeth.syndrome & 0x1f, psn, now); return;
    case wire::kSyndromeNakSequence: on_nak(aeth.syndrome, psn, now); return;
    default: ++core_.counters.dropped_received; return;
  }
}

/// The peer has received everything below `psn`.
void Requester::acknowledge_below(uint64_t psn, base::TimeNs now) noexcept {
  known_ = std::max(known_, psn);
  ack_requested_end_ = std::max(ack_requested_end_, known_);
  const uint64_t before = unacked_;
  while (unacked_ < known_) {
    const SendEntry& entry = queue_.at(queue_.head());
    if (entry.wants_response()) break;
    advance(std::min(entry.end_psn(), known_));
  }
  if (unacked_ != before) progress(now);
}

/// Moves the oldest unacknowledged PSN to `psn`, at most the end of the oldest request. For a READ
/// one response at a time.
void Requester::advance(uint64_t psn) noexcept {
  const uint32_t head = queue_.head();
  const SendEntry& entry = queue_.at(head);
  const uint64_t charged_to = std::min(psn, next_psn_);
  if (charged_to > unacked_) uncharge(cost(entry, unacked_, charged_to));
  if (entry.wants_response() && psn <= next_psn_ && psn == read_chunk_end(entry, unacked_)) {
    --reads_in_flight_;
  }
  unacked_ = psn;
  if (next_psn_ < psn) {
    next_psn_ = psn;
    cursor_ = head;
  }
  if (psn != entry.end_psn()) return;
  complete_head(base::WcStatus::kSuccess);
  complete_local();
}

void Requester::progress(base::TimeNs now) noexcept {
  reload_retries();
  rnr_deadline_ = base::kNever;
  restart_ack_timer(now);
}

}  // namespace flexins::transport
