#include "transport/requester.h"

/// The end of a send work request.

namespace flexins::transport {

using base::WcStatus;

namespace {

/// Extended PSNs begin here, so that a distance back never wraps.
constexpr uint64_t kExtendedBase = uint64_t{1} << 32;

}  // namespace

void Requester::complete_head(WcStatus status) noexcept {
  const SendEntry& entry = queue_.at(queue_.head());
  const bool signalled = core_.config.signal_all || (entry.flags & base::kSendSignaled) != 0;
  ++retired_;
  if (signalled || status != WcStatus::kSuccess) {
    Completion completion =
        send_completion(core_.config, entry.wr_id, entry.opcode, status, retired_);
    completion.byte_length = entry.is_read() || entry.is_atomic() ? entry.length : 0;
    core_.config.send_cq->complete(completion);
  }
  const uint32_t index = queue_.head();
  if (index != started_ && entry.wants_response()) --reads_started_;
  queue_.pop();
  if (cursor_ == index) cursor_ = queue_.head();
  if (started_ == index) started_ = queue_.head();
}

/// What was done here completes when all before it has.
void Requester::complete_local() noexcept {
  while (queue_.head() != started_) {
    const SendEntry& entry = queue_.at(queue_.head());
    if (!entry.is_local() || entry.error != WcStatus::kSuccess) return;
    complete_head(WcStatus::kSuccess);
  }
}

void Requester::fail_head(WcStatus status) noexcept {
  complete_head(status);
  core_.failed = true;
}

void Requester::complete_flushed(const SendWqe& wqe) noexcept {
  core_.config.send_cq->complete(
      send_completion(core_.config, wqe.wr_id, wqe.opcode, WcStatus::kWrFlush, ++retired_));
}

void Requester::flush() noexcept {
  while (!queue_.empty()) complete_head(WcStatus::kWrFlush);
  rewind();
  rnr_deadline_ = core_.memory_deadline = base::kNever;
  unacked_ = known_ = next_psn_ = sent_end_ = ack_requested_end_ = sent_end_;
}

void Requester::reset() noexcept {
  queue_.clear();
  rewind();
  started_ = cursor_;
  reads_started_ = 0;
  retired_ = 0;
  rnr_deadline_ = core_.memory_deadline = base::kNever;
  unacked_ = known_ = next_psn_ = sent_end_ = ack_requested_end_ = 0;
}

void Requester::start() noexcept {
  unacked_ = known_ = next_psn_ = sent_end_ = ack_requested_end_ =
      kExtendedBase + core_.attributes.sq_psn;
  recovery_.reset();
  reload_retries();
}

}  // namespace flexins::transport
