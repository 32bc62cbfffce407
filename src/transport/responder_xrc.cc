#include "transport/responder.h"

/// The SRQ that a request to an XRC target is for (IBTA annex A14).

namespace flexins::transport {

/// All packets of a message name one SRQ, which gives the receive, its completion queue and the
/// protection domain of all keys. False when there is none such in the target's domain, or a
/// message changes over to another.
bool Responder::choose_queue(const wire::Headers& headers) noexcept {
  if (core_.config.domain == nullptr) return true;
  if ((message_ != Message::kNone || receiving_) && headers.xrceth.srqn != srqn_) {
    find_queue();
    return false;
  }
  srqn_ = headers.xrceth.srqn;
  find_queue();
  return queue_.source != nullptr;
}

void Responder::find_queue() noexcept {
  if (core_.config.domain == nullptr) return;
  queue_ = ReceiveQueue{};
  if (!core_.config.domain->find(srqn_, queue_)) queue_ = ReceiveQueue{};
}

}  // namespace flexins::transport
