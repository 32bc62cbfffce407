#include <cstring>

#include "sim/oracle.h"
#include "transport/send_queue.h"

/// Send work requests: one completion each, in order, and only when it is true.

namespace flexins::sim {

using base::QpType;
using base::WcStatus;
using base::WrOpcode;

void Oracle::send_completed(QpLedger& qp, const pipe::CompletionEntry& entry) {
  const auto status = static_cast<WcStatus>(entry.status);
  const bool success = status == WcStatus::kSuccess;
  if (success && qp.failed) return violate("flush", &qp, "a send succeeded after an error");
  // Those before it that asked for no completion are done with it.
  while (!qp.sends.empty() && qp.sends.front().wr_id != entry.wr_id) {
    if (qp.sends.front().signalled || qp.sends_failed) {
      return violate("completion order", &qp,
                     "send " + std::to_string(qp.sends.front().wr_id) + " was passed over");
    }
    retire(qp, qp.sends.front(), WcStatus::kSuccess);
    qp.sends.pop_front();
    ++qp.sends_retired;
  }
  if (qp.sends.empty()) return violate("one completion", &qp, "of a send that is not outstanding");
  SendRecord& record = qp.sends.front();
  if (success && !record.signalled) {
    return violate("one completion", &qp, "of a send that asked for none");
  }
  if (success &&
      entry.opcode != static_cast<uint8_t>(transport::completion_opcode(record.opcode))) {
    return violate("completion fields", &qp, "opcode " + std::to_string(entry.opcode));
  }
  const bool answered = record.opcode == WrOpcode::kRdmaRead || record.is_atomic();
  if (success && answered && entry.byte_length != record.length) {
    return violate("completion fields", &qp, "byte_len " + std::to_string(entry.byte_length));
  }
  if (!success && !may_end_so(qp, record, status)) {
    return violate("status", &qp, "send ended with status " + std::to_string(entry.status));
  }
  if (!success) qp.failed = qp.sends_failed = true;
  retire(qp, record, status);
  qp.sends.pop_front();
  if (entry.retired != static_cast<uint32_t>(++qp.sends_retired)) {
    violate("completion fields", &qp, "retired " + std::to_string(entry.retired));
  }
}

void Oracle::retire(QpLedger& qp, SendRecord& record, WcStatus status) {
  const bool success = status == WcStatus::kSuccess;
  if (success) {
    ++counts_.sends;
    counts_.bytes += record.length;
    verify_success(qp, record);
  } else {
    ++(status == WcStatus::kWrFlush ? counts_.flushed : counts_.failed);
    if (record.counter != nullptr) ++record.counter->unknown;
  }
  settle_landings(qp, record, success);
}

void Oracle::verify_success(QpLedger& qp, SendRecord& record) {
  if (record.outlook != Outlook::kFine && !forged(qp)) {
    return violate("refusal", &qp, "a request that must be refused succeeded");
  }
  if (record.counter != nullptr && forged(qp)) ++record.counter->unknown;
  if (qp.type != QpType::kReliable || forged(qp)) return;
  const bool undelivered =
      record.message != kNoMessage && record.message >= qp.messages_delivered && !qp.peer->silent;
  if (undelivered && qp.peer->host == qp.host) {
    // Both ends were served in one round: whose CQ is looked at first says nothing.
    owed_.push_back({&qp, record.message});
    // Its bytes are looked at here, and not again.
    for (Message& message : qp.messages) {
      if (message.number == record.message) message.written_to = nullptr;
    }
  } else if (undelivered) {
    return violate("completion before delivery", &qp,
                   "message " + std::to_string(record.message) + " of which " +
                       std::to_string(qp.messages_delivered) + " were delivered");
  }
  const bool has_data = record.is_write() || record.opcode == WrOpcode::kRdmaRead;
  const bool revoked = record.target != nullptr && record.target->revoked;
  if (has_data && !revoked && !record.landing_arena->buried() &&
      !equal_bytes(*record.landing_arena, record.landings, 0, record.content)) {
    return violate("data", &qp, "not there, or wrong, when its completion came");
  }
  if (record.counter != nullptr) {
    uint64_t original = 0;
    std::memcpy(&original, record.landing_arena->at(record.landings[0].address), sizeof original);
    record.counter->changes.push_back({original, record.compare, record.posted, events_.now()});
    record.counter->last_seen = original == record.compare ? record.swap : original;
  }
}

void Oracle::check_owed() {
  for (const auto& [qp, message] : owed_) {
    if (message < qp->messages_delivered || qp->peer->silent || forged(*qp)) continue;
    violate("completion before delivery", qp, "message " + std::to_string(message));
  }
  owed_.clear();
}

void Oracle::settle_landings(QpLedger& qp, SendRecord& record, bool success) {
  if (record.landing_arena == nullptr || !record.owns_landings) return;
  // Packets of a WRITE that nobody acknowledged may arrive while the peer's QP lives.
  if (record.is_write() && (!success || qp.type != QpType::kReliable || forged(qp))) {
    qp.pending.push_back({record.content, record.landings, record.landing_arena});
    return;
  }
  free(qp, *record.landing_arena, record.landings);
}

bool Oracle::may_end_so(const QpLedger& qp, const SendRecord& record, WcStatus status) const {
  if (qp.failed) return status == WcStatus::kWrFlush;
  if (forged(qp)) return true;
  const bool source_gone = record.source != nullptr && record.source->revoked;
  const bool target_gone = record.target != nullptr && record.target->revoked;
  switch (status) {
    case WcStatus::kWrFlush: return qp.may_fail;
    case WcStatus::kLocalProtection: return record.outlook == Outlook::kLocalError || source_gone;
    case WcStatus::kLocalQpOperation:
    case WcStatus::kLocalLength: return record.outlook == Outlook::kLocalError;
    case WcStatus::kMwBind: return record.outlook == Outlook::kLocalError || source_gone;
    case WcStatus::kRemoteAccess: return record.outlook == Outlook::kRemoteError || target_gone;
    case WcStatus::kRemoteInvalidRequest:
    case WcStatus::kRemoteOperation: return record.outlook == Outlook::kRemoteError;
    case WcStatus::kRnrRetryExceeded: return qp.rnr_retry < 7 && record.takes_receive();
    case WcStatus::kRetryExceeded: {
      if (qp.type != QpType::kReliable) return false;
      const uint64_t met = fabric_.disturbances(qp.host, qp.peer->host) - record.disturbances;
      const bool peer_gone = qp.peer->destroyed || qp.peer->failed || qp.peer->may_fail;
      return peer_gone || met > qp.retry_count;
    }
    default: return false;
  }
}

}  // namespace flexins::sim
