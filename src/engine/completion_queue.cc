#include "engine/completion_queue.h"

namespace flexins::engine {

void CompletionQueue::push(const transport::Completion& completion, uint32_t generation) noexcept {
  if (overrun_) return;
  if (!ring_.has_room()) {
    fail();
    return;
  }
  pipe::CompletionEntry entry{};
  entry.wr_id = completion.wr_id;
  entry.qpn = completion.qpn.value;
  entry.source_qpn = completion.source_qpn.value;
  entry.byte_length = completion.byte_length;
  entry.immediate = completion.immediate;
  entry.wc_flags = completion.wc_flags;
  entry.vendor_error = completion.vendor_error;
  entry.retired = completion.retired;
  entry.status = static_cast<uint8_t>(completion.status);
  entry.opcode = static_cast<uint8_t>(completion.opcode);
  entry.is_send = completion.is_send ? 1 : 0;
  entry.generation = generation;
  ring_.push(entry);
  ++config_.counters->completions;

  // The full fence of take_arm is paid only where someone could be waiting.
  if (config_.channel.value == 0) return;
  const bool solicited = completion.solicited || completion.status != base::WcStatus::kSuccess;
  if (ring_.take_arm(solicited)) {
    config_.events->completion_event(config_.channel, config_.cookie);
  }
}

void CompletionQueue::fail() noexcept {
  overrun_ = true;
  ++config_.counters->cq_overruns;
  ring_.mark_overflowed();
  config_.events->async_event(config_.cookie, base::AsyncEvent::kCqError);
}

}  // namespace flexins::engine
