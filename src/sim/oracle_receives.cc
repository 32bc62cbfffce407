#include <algorithm>

#include "sim/oracle.h"

/// Receives: each once, in order but of an SRQ, with the message that is due.

namespace flexins::sim {

using base::QpType;
using base::WcStatus;

namespace {

constexpr uint32_t kGlobalRouteBytes = 40;

}  // namespace

std::optional<ReceiveRecord> Oracle::take_receive(QpLedger& qp, uint64_t wr_id) {
  if (qp.srq != nullptr) {
    const auto found = qp.srq->posted.find(wr_id);
    if (found == qp.srq->posted.end()) {
      violate("one completion", &qp, "of a shared receive that is not posted");
      return std::nullopt;
    }
    ReceiveRecord record = std::move(found->second);
    qp.srq->posted.erase(found);
    return record;
  }
  if (qp.receives.empty() || qp.receives.front().wr_id != wr_id) {
    violate("completion order", &qp, "of receive " + std::to_string(wr_id));
    return std::nullopt;
  }
  ReceiveRecord record = std::move(qp.receives.front());
  qp.receives.pop_front();
  return record;
}

bool Oracle::may_end_so(const QpLedger& qp, WcStatus status) const {
  if (qp.failed) return false;
  if (forged(qp)) return true;
  // A WRITE with immediate data whose target was taken away in the middle.
  const std::deque<Message>& due = qp.peer->messages;
  return status == WcStatus::kLocalAccess && !due.empty() && due.front().target != nullptr &&
         due.front().target->revoked;
}

void Oracle::receive_completed(QpLedger& qp, const pipe::CompletionEntry& entry) {
  const auto status = static_cast<WcStatus>(entry.status);
  std::optional<ReceiveRecord> record = take_receive(qp, entry.wr_id);
  if (!record.has_value()) return;
  if (entry.retired != static_cast<uint32_t>(++qp.receives_completed)) {
    violate("completion fields", &qp, "receive: retired " + std::to_string(entry.retired));
  }
  if (status == WcStatus::kSuccess) {
    ++counts_.receives;
    if (qp.failed) violate("flush", &qp, "a receive succeeded after an error");
    verify_message(qp, *record, entry);
  } else {
    const bool flush = status == WcStatus::kWrFlush;
    ++(flush ? counts_.flushed : counts_.failed);
    if (!(flush ? qp.failed || qp.may_fail : may_end_so(qp, status))) {
      violate("status", &qp, "receive ended with status " + std::to_string(entry.status));
    }
    qp.failed = true;
  }
  free(qp, *qp.arena, record->landings);
}

bool Oracle::matches(const QpLedger& qp, const Message& message, const ReceiveRecord& record,
                     const pipe::CompletionEntry& entry) const {
  const uint32_t skip = qp.type == QpType::kDatagram ? kGlobalRouteBytes : 0;
  if (entry.byte_length != message.length + skip) return false;
  const auto opcode =
      message.is_write ? base::WcOpcode::kReceiveRdmaWithImmediate : base::WcOpcode::kReceive;
  if (entry.opcode != static_cast<uint8_t>(opcode)) return false;
  const uint32_t flags = (skip > 0 ? base::kWcGrh : 0u) |
                         (message.has_immediate ? base::kWcWithImmediate : 0u) |
                         (message.invalidates ? base::kWcWithInvalidate : 0u);
  if (entry.wc_flags != flags) return false;
  if ((message.has_immediate || message.invalidates) && entry.immediate != message.immediate) {
    return false;
  }
  if (message.is_write) {
    return message.written_to == nullptr || message.written_to->buried() ||
           equal_bytes(*message.written_to, message.written, 0, message.content);
  }
  return equal_bytes(*qp.arena, record.landings, skip, message.content);
}

void Oracle::verify_message(QpLedger& qp, const ReceiveRecord& record,
                            const pipe::CompletionEntry& entry) {
  const bool is_write =
      entry.opcode == static_cast<uint8_t>(base::WcOpcode::kReceiveRdmaWithImmediate);
  if (entry.source_qpn != qp.peer->qpn && !forged(qp)) {
    violate("completion fields", &qp, "source QP " + std::to_string(entry.source_qpn));
  }
  if (!is_write && entry.byte_length > record.capacity) {
    violate("completion fields", &qp, "longer than its receive");
  } else if (qp.type == QpType::kReliable &&
             !rest_is_poison(*qp.arena, record.landings, is_write ? 0 : entry.byte_length)) {
    violate("placement", &qp, "behind the message's last byte");
  }
  if (forged(qp)) return;
  std::deque<Message>& due = qp.peer->messages;
  if (qp.type == QpType::kReliable) {
    if (due.empty()) return violate("delivery", &qp, "of what was never sent");
    if (!matches(qp, due.front(), record, entry)) {
      return violate("data", &qp,
                     "message " + std::to_string(due.front().number) + " is not what was received");
    }
    due.pop_front();
    ++qp.peer->messages_delivered;
    return;
  }
  // Most likely the one behind the last that came; else any.
  const auto like_it = [&](const Message& message) { return matches(qp, message, record, entry); };
  const uint64_t first = due.empty() ? 0 : due.front().number;
  const uint64_t passed =
      std::clamp(qp.peer->messages_delivered, first, first + due.size()) - first;
  const auto likely = due.begin() + static_cast<std::ptrdiff_t>(passed);
  auto found = std::find_if(likely, due.end(), like_it);
  if (found == due.end()) {
    found = std::find_if(due.begin(), likely, like_it);
    if (found == likely) found = due.end();
  }
  if (found == due.end()) {
    return violate("data", &qp,
                   "nothing like it was sent: " + std::to_string(entry.byte_length) +
                       " bytes, flags " + std::to_string(entry.wc_flags) + ", immediate " +
                       std::to_string(entry.immediate) + "; next due is message " +
                       (due.empty() ? "-" : std::to_string(due.front().number)) + " of " +
                       std::to_string(qp.peer->messages_posted));
  }
  qp.peer->messages_delivered = found->number + 1;
  // A connection's come once and in their order, where the network does not double or overtake:
  // a message may begin at any PSN (IBTA 9.8.2.2), so that one that comes again is a new one.
  const bool disturbed = fabric_.disturbances(qp.host, qp.peer->host) > 0;
  if (qp.type == QpType::kUnreliable && !disturbed) due.erase(due.begin(), found + 1);
}

}  // namespace flexins::sim
