#include "transport/responder.h"

namespace flexins::transport {

using base::WcStatus;

void Responder::on_read(const Request& request) noexcept {
  const wire::Reth& reth = request.headers.reth;
  const bool allowed = (core_.attributes.access_flags & base::kAccessRemoteRead) != 0;
  if (message_ != Message::kNone || request.length != 0 || !allowed ||
      reth.length > base::Limits::kMaxMessageBytes) {
    return refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
  }
  if (reth.length > 0 &&
      remote(reth.key, base::kAccessRemoteRead, reth.address, reth.length) == nullptr) {
    return refuse(wire::kSyndromeNakRemoteAccess, WcStatus::kRemoteAccess);
  }
  RemoteOperation* operation = operations_.add();
  if (operation == nullptr) {
    return refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
  }
  operation->first_psn = expected_;
  operation->packets = core_.packets_of(reth.length);
  operation->key = reth.key;
  operation->pd = queue_.pd;
  operation->address = reth.address;
  operation->length = operation->byte_end = reth.length;
  operations_.set_due(*operation, 0, operation->packets);
  accept(request, operation->packets, true);
  operation->msn = msn_;
}

}  // namespace flexins::transport
