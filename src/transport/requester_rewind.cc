#include <algorithm>

#include "transport/requester.h"
#include "transport/rnr_timer.h"

/// Sending again, and the timers.

namespace flexins::transport {

using base::WcStatus;

void Requester::rewind() noexcept {
  release_window();
  next_psn_ = unacked_;
  cursor_ = queue_.head();
  reads_in_flight_ = 0;
  ack_requested_end_ = std::max(std::min(ack_requested_end_, next_psn_), known_);
  unasked_bytes_ = 0;
  unasked_packets_ = 0;
  soliciting_ = false;
  ack_deadline_ = base::kNever;
}

void Requester::repeat_lost() noexcept {
  if (next_psn_ == unacked_) return;
  if (!recovery_.on_gap(unacked_)) return;
  if (spend_retry()) rewind();
}

/// Memory that an answer is for does not answer itself at present: the request is sent again in a
/// while, which costs no retry.
void Requester::repeat_unplaced(base::TimeNs now) noexcept {
  rewind();
  rnr_deadline_ = now + kMemoryWait;
}

bool Requester::spend_retry() noexcept {
  if (retries_left_ == 0) {
    fail_head(WcStatus::kRetryExceeded);
    return false;
  }
  --retries_left_;
  return true;
}

void Requester::reload_retries() noexcept {
  retries_left_ = core_.attributes.retry_count;
  rnr_retries_left_ = core_.attributes.rnr_retry;
}

void Requester::restart_ack_timer(base::TimeNs now) noexcept {
  ack_deadline_ = next_psn_ == unacked_
                      ? base::kNever
                      : deadline_after(now, ack_timeout(core_.attributes.timeout));
}

void Requester::on_deadline(base::TimeNs now) noexcept {
  if (rnr_deadline_ <= now) rnr_deadline_ = base::kNever;
  if (core_.memory_deadline <= now) core_.memory_deadline = base::kNever;
  if (ack_deadline_ > now) return;
  ++core_.counters.timeouts;
  if (!spend_retry()) return;
  recovery_.on_timeout();
  rewind();
}

}  // namespace flexins::transport
