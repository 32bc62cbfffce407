#include <algorithm>

#include "transport/requester.h"

/// Answers that carry data: READ responses and atomic acknowledges.

namespace flexins::transport {

using base::WcStatus;
using memory::AccessResult;
using wire::Opcode;

void Requester::on_data(const wire::Headers& headers, std::span<const iovec> payload,
                        uint32_t payload_length, uint64_t psn, base::TimeNs now) noexcept {
  const Opcode opcode = headers.bth.opcode;
  if (opcode != Opcode::kRcReadResponseMiddle && (headers.aeth.syndrome & 0xe0) != 0) {
    ++core_.counters.dropped_received;
    return;
  }
  acknowledge_below(psn, now);
  if (unacked_ != psn) {
    ++core_.counters.out_of_sequence_received;
    known_ = std::max(known_, psn + 1);
    return repeat_lost();
  }
  const SendEntry& entry = queue_.at(queue_.head());
  const bool is_atomic = opcode == Opcode::kRcAtomicAcknowledge;
  if (entry.is_atomic_write()) return on_atomic_write_response(opcode, payload_length, now);
  if (is_atomic ? !entry.is_atomic() : !entry.is_read()) return fail_head(WcStatus::kBadResponse);
  if (is_atomic) {
    on_atomic_response(headers.atomic_original, now);
  } else {
    on_read_response(opcode, payload, payload_length, now);
  }
}

void Requester::on_read_response(Opcode opcode, std::span<const iovec> payload,
                                 uint32_t payload_length, base::TimeNs now) noexcept {
  const uint32_t head = queue_.head();
  const SendEntry& entry = queue_.at(head);
  const uint64_t offset = (unacked_ - entry.first_psn) * core_.mtu_bytes;
  const uint64_t length = std::min<uint64_t>(core_.mtu_bytes, entry.length - offset);
  const bool ends_request = read_chunk_end(entry, unacked_) == unacked_ + 1;
  // A request repeated from its middle is answered with FIRST by some and MIDDLE by others.
  const bool says_end =
      opcode == Opcode::kRcReadResponseLast || opcode == Opcode::kRcReadResponseOnly;
  if (payload_length != length || says_end != ends_request) {
    return fail_head(WcStatus::kBadResponse);
  }
  switch (place_sges(domain(), queue_.sges(head), offset, payload, length)) {
    case AccessResult::kDone: break;
    case AccessResult::kLater: return repeat_unplaced(now);
    case AccessResult::kFailed: return fail_head(WcStatus::kLocalProtection);
  }
  core_.counters.payload_bytes_received += length;
  known_ = std::max(known_, unacked_ + 1);
  advance(unacked_ + 1);
  progress(now);
  acknowledge_below(known_, now);
}

/// An atomic write is answered like a READ of nothing.
void Requester::on_atomic_write_response(Opcode opcode, uint32_t payload_length,
                                         base::TimeNs now) noexcept {
  if (opcode != Opcode::kRcReadResponseOnly || payload_length != 0) {
    return fail_head(WcStatus::kBadResponse);
  }
  known_ = std::max(known_, unacked_ + 1);
  advance(unacked_ + 1);
  progress(now);
  acknowledge_below(known_, now);
}

void Requester::on_atomic_response(uint64_t original, base::TimeNs now) noexcept {
  const iovec piece{&original, sizeof original};
  switch (
      place_sges(domain(), queue_.sges(queue_.head()), 0, std::span(&piece, 1), sizeof original)) {
    case AccessResult::kDone: break;
    case AccessResult::kLater: return repeat_unplaced(now);
    case AccessResult::kFailed: return fail_head(WcStatus::kLocalProtection);
  }
  known_ = std::max(known_, unacked_ + 1);
  advance(unacked_ + 1);
  progress(now);
  acknowledge_below(known_, now);
}

}  // namespace flexins::transport
