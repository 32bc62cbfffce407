#include "transport/responder.h"

/// Requests that are refused.

namespace flexins::transport {

using base::AsyncEvent;

/// No receive is posted, or memory does not answer at present: the requester is to try again later.
/// What it sent behind this packet is out of sequence and draws no NAK of its own.
void Responder::refuse_not_ready() noexcept {
  gap_reported_ = true;
  gap_end_ = expected_;
  reply_ = Reply::kRnr;
}

/// Ends the connection. Whoever owns the receive hears of it by its completion, else by an event.
void Responder::refuse(uint8_t syndrome, base::WcStatus receive_status) noexcept {
  if (receiving_) {
    complete_receive(receive_status, nullptr);
  } else if (syndrome == wire::kSyndromeNakRemoteAccess) {
    core_.raise(AsyncEvent::kQpAccessError);
  } else if (syndrome == wire::kSyndromeNakInvalidRequest) {
    core_.raise(AsyncEvent::kQpRequestError);
  } else {
    core_.raise(AsyncEvent::kQpFatal);
  }
  break_off(syndrome, expected_);
}

/// The answer says why; earlier answers go out before it.
void Responder::break_off(uint8_t syndrome, base::Psn psn) noexcept {
  reply_ = Reply::kFatal;
  syndrome_ = syndrome;
  reply_psn_ = psn;
  core_.failed = true;
}

}  // namespace flexins::transport
