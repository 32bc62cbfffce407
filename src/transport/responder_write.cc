#include "transport/responder.h"

namespace flexins::transport {

using base::WcStatus;

void Responder::on_write(const Request& request) noexcept {
  if (!well_framed(request, Message::kWrite)) {
    return refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
  }
  if (request.first && !begin_write(request)) return;
  const uint64_t missing = write_length_ - received_bytes_;
  if (request.last ? request.length != missing : request.length >= missing) {
    return refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
  }
  const bool immediate = (wire::header_set(request.headers.bth.opcode) & wire::kHasImmediate) != 0;
  if (immediate) {
    // Before anything is placed: a packet that is refused has had no effect.
    if (!take_receive()) return refuse_not_ready();
  }
  if (!place_write(request)) return;
  received_bytes_ += request.length;
  message_ = request.last ? Message::kNone : Message::kWrite;
  accept(request, 1, false);
  if (immediate) complete_receive(WcStatus::kSuccess, &request);
}

bool Responder::begin_write(const Request& request) noexcept {
  const wire::Reth& reth = request.headers.reth;
  if ((core_.attributes.access_flags & base::kAccessRemoteWrite) == 0 ||
      reth.length > base::Limits::kMaxMessageBytes) {
    refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
    return false;
  }
  // No byte, no key: IBTA allows a WRITE of nothing to name any.
  if (reth.length > 0 &&
      remote(reth.key, base::kAccessRemoteWrite, reth.address, reth.length) == nullptr) {
    refuse(wire::kSyndromeNakRemoteAccess, WcStatus::kRemoteAccess);
    return false;
  }
  write_address_ = reth.address;
  write_length_ = reth.length;
  write_key_ = reth.key;
  received_bytes_ = 0;
  return true;
}

bool Responder::place_write(const Request& request) noexcept {
  if (request.length == 0) return true;
  const uint64_t address = write_address_ + received_bytes_;
  // Looked up per packet: the region may have been deregistered in the middle of a message.
  memory::Region* region = remote(write_key_, base::kAccessRemoteWrite, address, request.length);
  if (region == nullptr) {
    // The receive of an immediate: a remote status is the requester's alone.
    refuse(wire::kSyndromeNakRemoteAccess, WcStatus::kLocalAccess);
    return false;
  }
  switch (memory::place(*region, address, request.payload, 0, request.length)) {
    case memory::AccessResult::kDone: return true;
    case memory::AccessResult::kLater: refuse_not_ready(); return false;
    case memory::AccessResult::kFailed: break;
  }
  refuse(wire::kSyndromeNakRemoteOperation, WcStatus::kLocalProtection);
  return false;
}

}  // namespace flexins::transport
