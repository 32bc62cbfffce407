#include "transport/responder.h"

/// Requests that were executed before. Their answers may have been lost.

namespace flexins::transport {

using wire::Opcode;

void Responder::on_duplicate(const Request& request) noexcept {
  ++core_.counters.duplicates_received;
  switch (request.headers.bth.opcode) {
    case Opcode::kRcReadRequest: return repeat_read(request.headers);
    case Opcode::kRcCompareSwap:
    case Opcode::kRcFetchAdd: return repeat_atomic(request.headers);
    case Opcode::kRcAtomicWrite: return repeat_atomic_write(request.headers);
    default: return acknowledge();
  }
}

/// A READ is executed again, perhaps only from its middle on. It has to lie within the request
/// that it repeats: anything else is no repetition.
void Responder::repeat_read(const wire::Headers& headers) noexcept {
  RemoteOperation* operation = operations_.find(headers.bth.psn);
  if (operation != nullptr && !operation->is_atomic && !operation->is_atomic_write) {
    const wire::Reth& reth = headers.reth;
    const auto index = static_cast<uint32_t>(distance(headers.bth.psn, operation->first_psn));
    const uint64_t offset = uint64_t{index} * core_.mtu_bytes;
    const uint64_t end = offset + reth.length;
    if (reth.key == operation->key && reth.address == operation->address + offset &&
        end <= operation->length && (reth.length > 0 || operation->length == 0)) {
      operation->byte_end = static_cast<uint32_t>(end);
      operations_.repeat(*operation, index, index + core_.packets_of(reth.length));
      return;
    }
  }
  ++core_.counters.dropped_received;
}

/// An atomic must not be executed twice: the value that it found is sent again.
void Responder::repeat_atomic(const wire::Headers& headers) noexcept {
  RemoteOperation* operation = operations_.find(headers.bth.psn);
  if (operation == nullptr || !operation->is_atomic) {
    ++core_.counters.dropped_received;
    return;
  }
  operations_.repeat(*operation, 0, 1);
}

void Responder::repeat_atomic_write(const wire::Headers& headers) noexcept {
  RemoteOperation* operation = operations_.find(headers.bth.psn);
  if (operation == nullptr || !operation->is_atomic_write) {
    ++core_.counters.dropped_received;
    return;
  }
  operations_.repeat(*operation, 0, 1);
}

}  // namespace flexins::transport
