#include "transport/responder.h"

/// The responder's life.

namespace flexins::transport {

using base::WcStatus;

bool Responder::start() {
  expected_ = base::Psn(core_.attributes.rq_psn);
  return operations_.allocate(core_.attributes.max_dest_rd_atomic);
}

void Responder::reset() noexcept {
  silence();
  operations_.clear();
  message_ = Message::kNone;
  gap_reported_ = false;
  receiving_ = false;
  msn_ = 0;
  retired_ = 0;
}

void Responder::silence() noexcept {
  operations_.cancel_all();
  reply_ = Reply::kNone;
}

void Responder::flush() noexcept {
  if (receiving_) {
    find_queue();
    complete_receive(WcStatus::kWrFlush, nullptr);
  }
  if (core_.config.shared_receives) {
    core_.raise(base::AsyncEvent::kLastWqeReached);
  } else {
    flush_posted();
  }
}

void Responder::flush_posted() noexcept {
  while (core_.config.receives->take(receive_)) complete_receive(WcStatus::kWrFlush, nullptr);
}

}  // namespace flexins::transport
