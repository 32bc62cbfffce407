#include "engine/completion_queue.h"

#include <algorithm>
#include <cerrno>

namespace flexins::engine {

void CompletionQueue::push(const transport::Completion& completion, uint32_t generation) noexcept {
  if (overrun_) return;
  if (!ring_.has_room()) {
    if (config_.ignore_overrun) {
      ++config_.counters->completions_lost;
    } else {
      fail();
    }
    return;
  }
  pipe::CompletionEntry entry{};
  entry.wr_id = completion.wr_id;
  entry.timestamp_ns = *config_.now;
  entry.qpn = completion.qpn.value;
  entry.source_qpn = completion.source_qpn.value;
  entry.byte_length = completion.byte_length;
  entry.immediate = completion.immediate;
  entry.wc_flags = completion.wc_flags;
  entry.vendor_error = completion.vendor_error;
  entry.retired = completion.retired;
  entry.status = static_cast<uint8_t>(completion.status);
  entry.opcode = static_cast<uint8_t>(completion.opcode);
  entry.service_level = completion.service_level;
  entry.is_send = completion.is_send ? 1 : 0;
  entry.generation = generation;
  ring_.push(entry);
  ++config_.counters->completions;

  // The full fence of take_arm is paid only where someone could be waiting.
  if (config_.channel.value == 0) return;
  const bool failed = completion.status != base::WcStatus::kSuccess;
  announce(completion.solicited || failed, failed);
}

void CompletionQueue::announce(bool solicited, bool failed) noexcept {
  if (moderation_period_ns_ > 0 && !failed) {
    if (!ring_.awaited(solicited)) return;
    if (++held_back_ < moderation_count_ || moderation_count_ == 0) {
      if (held_back_ == 1) config_.timers->schedule(timer_, *config_.now + moderation_period_ns_);
      return;
    }
  }
  send_event(solicited);
}

void CompletionQueue::send_event(bool solicited) noexcept {
  if (held_back_ > 0) config_.timers->cancel(timer_);
  held_back_ = 0;
  if (!ring_.take_arm(solicited)) return;
  if (config_.events->completion_event(config_.channel, config_.cookie)) ++events_delivered_;
}

EventsRead CompletionQueue::settle_events() const noexcept {
  EventsRead read;
  if (events_delivered_ > 0) {
    const uint32_t withdrawn =
        config_.events->withdraw_completion_events(config_.channel, config_.cookie);
    read.completion = events_delivered_ - std::min(events_delivered_, withdrawn);
  }
  read.async = async_events_.settle(*config_.events, config_.cookie);
  return read;
}

void CompletionQueue::moderate(uint32_t count, base::TimeNs period_ns) noexcept {
  // What an earlier setting holds back is owed now.
  if (held_back_ > 0) send_event(true);
  moderation_count_ = count;
  moderation_period_ns_ = period_ns;
}

base::Result<void> CompletionQueue::move_to(RingMemory ring, uint32_t depth, uint32_t wanted) {
  if (overrun_) return base::Error{EIO, "the completion queue has overrun"};
  if (ring_.waiting() > wanted || !ring_.move_to(ring.base, depth)) {
    return base::Error{EINVAL, "more completions are waiting than the new size holds"};
  }
  return {};
}

void CompletionQueue::fail() noexcept {
  overrun_ = true;
  ++config_.counters->cq_overruns;
  ring_.mark_overflowed();
  async_events_.send(*config_.events, config_.cookie, base::AsyncEvent::kCqError);
}

}  // namespace flexins::engine
