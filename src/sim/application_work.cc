#include <algorithm>

#include "pipe/entry_writer.h"
#include "sim/application.h"
#include "sim/host.h"

/// Posting and polling.

namespace flexins::sim {

namespace {

bool is_bind(base::WrOpcode opcode) { return opcode == base::WrOpcode::kBindMw; }

pipe::SendHead head_of(const SendOrder& order, const SendRecord& record) {
  pipe::SendHead head;
  head.wr_id = record.wr_id;
  head.remote_address = order.remote_address;
  head.remote_key = order.remote_key;
  head.opcode = record.opcode;
  head.flags = order.flags;
  head.immediate = record.immediate;
  if (record.opcode == base::WrOpcode::kSendWithInvalidate ||
      record.opcode == base::WrOpcode::kLocalInvalidate) {
    head.immediate = record.invalidate_key;
  }
  if (is_bind(record.opcode)) head.immediate = order.bind_old_key;
  return head;
}

}  // namespace

bool Application::post_send(Endpoint& endpoint, const SendOrder& order, SendRecord record) {
  if (!producer_.has_room(pipe::kMaxSubmissionSlots)) return false;
  record.wr_id = next_wr_id_++;
  record.signalled = endpoint.options.signal_all || (order.flags & base::kSendSignaled) != 0;
  pipe::EntryWriter writer([this](uint32_t i) -> auto& { return producer_.slot(i); });
  writer.head(endpoint.qpn.value, pipe::SubmissionKind::kSend, head_of(order, record));
  const bool is_inline = (order.flags & base::kSendInline) != 0;
  if (is_inline) writer.append(order.inline_bytes.data(), order.inline_bytes.size());
  for (const base::Sge& sge : order.sges) writer.sge(sge.address, sge.length, sge.key);
  if (record.is_atomic()) writer.operands(pipe::AtomicOperands{order.compare_add, order.swap});
  if (is_bind(record.opcode)) writer.operands(order.bind);
  producer_.publish(writer.finish(is_inline));
  ++endpoint.sends_posted;
  endpoint.unsignalled = record.signalled ? 0 : endpoint.unsignalled + 1;
  host_.around().oracle.posted(*endpoint.ledger, std::move(record));
  host_.kick();
  return true;
}

std::optional<ReceiveRecord> Application::new_receive(uint32_t capacity, uint32_t sges_max) {
  ReceiveRecord record;
  record.capacity = capacity;
  const auto pieces = static_cast<uint32_t>(random_.between(1, sges_max));
  uint32_t left = capacity;
  for (uint32_t i = 0; i < pieces; ++i) {
    const auto length = i + 1 == pieces ? left : static_cast<uint32_t>(random_.below(left + 1u));
    const auto address = arena_->allocate(length);
    if (!address.has_value()) {
      for (const Landing& landing : record.landings)
        static_cast<void>(arena_->free(landing.address));
      return std::nullopt;
    }
    record.landings.push_back({*address, length});
    left -= length;
  }
  record.wr_id = next_wr_id_++;
  return record;
}

void Application::post_receive(Endpoint& endpoint, ReceiveRecord record) {
  std::vector<base::Sge> sges;
  for (const Landing& landing : record.landings) {
    sges.push_back({landing.address, landing.length, any_key(random_).value});
  }
  endpoint.receives.write(record.wr_id, sges);
  endpoint.receives.publish();
  ++endpoint.receives_posted;
  host_.around().oracle.posted(*endpoint.ledger, std::move(record));
  kick_receives(endpoint);
}

void Application::kick_receives(Endpoint& endpoint) {
  if (!endpoint.receives.needs_kick() || !producer_.has_room(1)) return;
  pipe::EntryWriter writer([this](uint32_t i) -> auto& { return producer_.slot(i); });
  writer.head(endpoint.qpn.value, pipe::SubmissionKind::kReceiveKick, pipe::SendHead{});
  producer_.publish(writer.finish(false));
  host_.kick();
}

void Application::replenish_shared() {
  constexpr uint32_t kDepth = 32;
  constexpr uint32_t kSges = 3;
  while (srq_.position() - srq_.consumed() < kDepth) {
    std::optional<ReceiveRecord> record = new_receive(kSharedReceiveBytes, kSges);
    if (!record.has_value()) return;
    std::vector<base::Sge> sges;
    for (const Landing& landing : record->landings) {
      sges.push_back({landing.address, landing.length, any_key(random_).value});
    }
    srq_.write(record->wr_id, sges);
    srq_.publish();
    host_.around().oracle.posted(*srq_ledger_, std::move(*record));
  }
}

void Application::post_garbage(Random& random) {
  if (!producer_.has_room(pipe::kMaxSubmissionSlots)) return;
  pipe::SubmissionSlot& slot = producer_.slot(0);
  for (size_t i = 0; i < pipe::kSlotBytes - sizeof(slot.sequence); ++i) {
    reinterpret_cast<uint8_t*>(&slot)[i] = static_cast<uint8_t>(random.next());
  }
  // An entry for a QP of its own could do what that QP may do; another's, or none's, nothing.
  uint32_t slots = slot.slot_count;
  if (slots < 1 || slots > pipe::kMaxSubmissionSlots) slots = 1;
  if (random.chance(0.3)) slot.kind = 0;
  if (endpoints_.contains(slot.qpn)) slot.qpn ^= 1u << 24;
  producer_.publish(slots);
  host_.kick();
}

void Application::observe() {
  if (!alive_) return;
  for (const auto& cq : cqs_) {
    if (cq->destroyed) continue;
    while (const pipe::CompletionEntry* entry = cq->observer.front()) {
      cq->observer.pop();
      const auto found = ledgers_.find(entry->qpn);
      if (found == ledgers_.end()) {
        host_.around().oracle.violate("one completion", nullptr, "of a QP that never was");
      } else {
        host_.around().oracle.completed(*found->second, *entry);
      }
    }
  }
}

void Application::wake() {
  if (poll_pending_ || !alive_) return;
  for (const auto& cq : cqs_) {
    if (cq->destroyed || cq->consumer.front() == nullptr) continue;
    poll_pending_ = true;
    const base::TimeNs soon = host_.around().events.now() + random_.spread(100, 10'000);
    return host_.around().events.at(std::max(soon, stalled_until_), *this);
  }
}

void Application::on_event(uint64_t, base::TimeNs now) {
  poll_pending_ = false;
  if (!alive_) return;
  if (now < stalled_until_) return wake();
  poll();
}

void Application::poll() {
  // By number, as a handler may make further CQs.
  for (size_t i = 0; i < cqs_.size(); ++i) {
    Cq& cq = *cqs_[i];
    if (cq.destroyed) continue;
    while (const pipe::CompletionEntry* entry = cq.consumer.front()) {
      cq.consumer.pop();
      handle(*entry);
    }
    cq.consumer.release();
  }
  replenish_shared();
}

void Application::handle(const pipe::CompletionEntry& entry) {
  const auto found = endpoints_.find(entry.qpn);
  if (found == endpoints_.end()) return;
  Endpoint& endpoint = *found->second;
  (entry.is_send != 0 ? endpoint.sends_retired : endpoint.receives_done) = entry.retired;
  if (endpoint.handler != nullptr) endpoint.handler->on_completion(entry);
}

}  // namespace flexins::sim
