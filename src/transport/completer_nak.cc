#include "transport/requester.h"
#include "transport/rnr_timer.h"

/// Negative acknowledgements. All of them acknowledge what lies before them.

namespace flexins::transport {

using base::WcStatus;

namespace {

constexpr uint8_t kRnrRetryForEver = 7;

WcStatus status_of(uint8_t syndrome) {
  switch (syndrome) {
    case wire::kSyndromeNakRemoteAccess: return WcStatus::kRemoteAccess;
    case wire::kSyndromeNakRemoteOperation: return WcStatus::kRemoteOperation;
    default: return WcStatus::kRemoteInvalidRequest;
  }
}

}  // namespace

void Requester::on_rnr_nak(uint8_t timer_code, uint64_t psn, base::TimeNs now) noexcept {
  acknowledge_below(psn, now);
  if (unacked_ != psn) return repeat_lost();
  // Already waiting for this one, or not sent again since: an echo.
  if (next_psn_ == unacked_) {
    ++core_.counters.dropped_received;
    return;
  }
  ++core_.counters.rnr_naks_received;
  if (rnr_retries_left_ == 0) return fail_head(WcStatus::kRnrRetryExceeded);
  if (rnr_retries_left_ != kRnrRetryForEver) --rnr_retries_left_;
  rewind();
  rnr_deadline_ = deadline_after(now, rnr_wait(timer_code));
}

void Requester::on_nak(uint8_t syndrome, uint64_t psn, base::TimeNs now) noexcept {
  if (syndrome > wire::kSyndromeNakInvalidRd) {
    ++core_.counters.dropped_received;
    return;
  }
  ++core_.counters.naks_received;
  acknowledge_below(psn, now);
  if (syndrome == wire::kSyndromeNakSequence || unacked_ != psn) return repeat_lost();
  fail_head(status_of(syndrome));
}

}  // namespace flexins::transport
