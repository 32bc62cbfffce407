#include "transport/responder.h"

namespace flexins::transport {

using base::WcStatus;

namespace {

constexpr uint64_t kAtomicBytes = 8;

}  // namespace

/// Eight bytes that no reader sees in halves (IBTA annex A19.4): placement keeps aligned words
/// whole. Executed once, and answered like a READ of nothing, in order with other answers.
void Responder::on_atomic_write(const Request& request) noexcept {
  const wire::Reth& reth = request.headers.reth;
  const bool allowed = (core_.attributes.access_flags & base::kAccessRemoteWrite) != 0;
  if (message_ != Message::kNone || !allowed || reth.length != kAtomicBytes ||
      request.length != kAtomicBytes || reth.address % kAtomicBytes != 0) {
    return refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
  }
  memory::Region* region = remote(reth.key, base::kAccessRemoteWrite, reth.address, kAtomicBytes);
  if (region == nullptr) return refuse(wire::kSyndromeNakRemoteAccess, WcStatus::kRemoteAccess);
  RemoteOperation* operation = operations_.add();
  if (operation == nullptr) {
    return refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
  }
  switch (memory::place(*region, reth.address, request.payload, 0, kAtomicBytes)) {
    case memory::AccessResult::kDone: break;
    case memory::AccessResult::kLater: operations_.take_back(); return refuse_not_ready();
    case memory::AccessResult::kFailed:
      return refuse(wire::kSyndromeNakRemoteOperation, WcStatus::kRemoteOperation);
  }
  operation->first_psn = expected_;
  operation->packets = 1;
  operation->is_atomic_write = true;
  operations_.set_due(*operation, 0, 1);
  accept(request, 1, true);
  operation->msn = msn_;
}

}  // namespace flexins::transport
