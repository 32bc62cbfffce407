#include <algorithm>

#include "transport/responder.h"

namespace flexins::transport {

using base::WcStatus;
using memory::AccessResult;
using wire::Opcode;

void Responder::on_send(const Request& request) noexcept {
  if (!well_framed(request, Message::kSend)) {
    return refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
  }
  if (request.first) {
    if (!take_receive()) return refuse_not_ready();
    received_bytes_ = 0;
    receive_length_ = std::min<uint64_t>(sges_length({receive_.sge.data(), receive_.sge_count}),
                                         base::Limits::kMaxMessageBytes);
  }
  if (received_bytes_ + request.length > receive_length_) {
    // IBTA has "invalid request" for this; Linux answers so, and programs have learned it.
    return refuse(wire::kSyndromeNakRemoteOperation, WcStatus::kLocalLength);
  }
  switch (place_sges(domain(), {receive_.sge.data(), receive_.sge_count}, received_bytes_,
                     request.payload, request.length)) {
    case AccessResult::kDone: break;
    case AccessResult::kLater: return refuse_not_ready();
    case AccessResult::kFailed:
      return refuse(wire::kSyndromeNakRemoteOperation, WcStatus::kLocalProtection);
  }
  if ((wire::header_set(request.headers.bth.opcode) & wire::kHasIeth) != 0 &&
      !core_.config.regions->invalidate(base::MemoryKey{request.headers.invalidate_key}, queue_.pd,
                                        core_.config.qpn)) {
    return refuse(wire::kSyndromeNakRemoteAccess, WcStatus::kRemoteInvalidRequest);
  }
  received_bytes_ += request.length;
  message_ = request.last ? Message::kNone : Message::kSend;
  accept(request, 1, false);
  if (request.last) complete_receive(WcStatus::kSuccess, &request);
}

/// False when none is posted. One that was taken for a packet that could not be placed serves its
/// repetition.
bool Responder::take_receive() noexcept {
  if (receiving_) return true;
  if (!queue_.source->take(receive_)) return false;
  receive_.sge_count = std::min(receive_.sge_count, base::Limits::kMaxSge);
  receiving_ = true;
  return true;
}

void Responder::complete_receive(WcStatus status, const Request* request) noexcept {
  receiving_ = false;
  // With an SRQ that is destroyed in the middle of a message, its receive is gone too.
  if (queue_.completions == nullptr) return;
  Completion completion;
  completion.wr_id = receive_.wr_id;
  completion.status = status;
  completion.opcode = base::WcOpcode::kReceive;
  completion.qpn = core_.config.qpn;
  completion.source_qpn = base::Qpn{core_.attributes.destination_qpn};
  completion.retired = ++retired_;
  completion.solicited = status != WcStatus::kSuccess;
  if (status == WcStatus::kSuccess && request != nullptr) {
    const wire::Headers& headers = request->headers;
    completion.byte_length = static_cast<uint32_t>(received_bytes_);
    completion.solicited = headers.bth.solicited;
    const bool is_write = headers.bth.opcode == Opcode::kRcWriteLastImmediate ||
                          headers.bth.opcode == Opcode::kRcWriteOnlyImmediate;
    if (is_write) completion.opcode = base::WcOpcode::kReceiveRdmaWithImmediate;
    if ((wire::header_set(headers.bth.opcode) & wire::kHasImmediate) != 0) {
      completion.wc_flags = base::kWcWithImmediate;
      completion.immediate = headers.immediate;
    }
    if ((wire::header_set(headers.bth.opcode) & wire::kHasIeth) != 0) {
      completion.wc_flags = base::kWcWithInvalidate;
      completion.immediate = headers.invalidate_key;
    }
  }
  queue_.completions->complete(completion);
}

}  // namespace flexins::transport
