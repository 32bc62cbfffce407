#include "sim/oracle.h"

#include <algorithm>
#include <cstring>

namespace flexins::sim {

using base::WcStatus;

namespace {

/// Calls `compare(at, expected, length)` for each run in which landings and contents agree on where
/// they are; false as soon as that is.
template <typename Compare>
bool walk(const Arena& arena, const std::vector<Landing>& landings, uint64_t skip,
          const std::vector<Content>& content, Compare compare) {
  size_t at = 0;
  uint64_t offset = skip;
  while (at < landings.size() && offset >= landings[at].length) offset -= landings[at++].length;
  for (const Content& piece : content) {
    uint64_t done = 0;
    while (done < piece.length) {
      if (at == landings.size()) return false;
      const uint64_t run = std::min<uint64_t>(piece.length - done, landings[at].length - offset);
      if (run > 0 && !compare(arena.at(landings[at].address + offset), piece.bytes + done, run)) {
        return false;
      }
      done += run;
      offset += run;
      if (offset == landings[at].length) {
        ++at;
        offset = 0;
      }
    }
  }
  return true;
}

}  // namespace

bool equal_bytes(const Arena& arena, const std::vector<Landing>& landings, uint64_t skip,
                 const std::vector<Content>& content) {
  return walk(arena, landings, skip, content,
              [](const std::byte* at, const std::byte* expected, uint64_t length) {
                return std::memcmp(at, expected, length) == 0;
              });
}

bool partly_equal(const Arena& arena, const std::vector<Landing>& landings,
                  const std::vector<Content>& content) {
  return walk(arena, landings, 0, content,
              [](const std::byte* at, const std::byte* expected, uint64_t length) {
                for (uint64_t i = 0; i < length; ++i) {
                  if (at[i] != expected[i] && at[i] != Arena::kPoison) return false;
                }
                return true;
              });
}

bool rest_is_poison(const Arena& arena, const std::vector<Landing>& landings, uint64_t from) {
  for (const Landing& landing : landings) {
    const uint64_t skipped = std::min<uint64_t>(from, landing.length);
    from -= skipped;
    if (!arena.is_poison(landing.address + skipped, landing.length - skipped)) return false;
  }
  return true;
}

QpLedger& Oracle::open(QpLedger ledger) {
  ledger.number = static_cast<uint32_t>(qps_.size());
  return qps_.emplace_back(std::move(ledger));
}

SrqLedger& Oracle::open_srq(std::shared_ptr<Arena> arena) {
  SrqLedger& srq = srqs_.emplace_back();
  srq.arena = std::move(arena);
  return srq;
}

Counter& Oracle::open_counter(std::shared_ptr<Arena> arena, uint64_t address, bool swaps) {
  Counter& counter = counters_.emplace_back();
  counter.arena = std::move(arena);
  counter.address = address;
  counter.swaps = swaps;
  return counter;
}

void Oracle::violate(const char* invariant, const QpLedger* qp, const std::string& detail) {
  if (violation_.has_value()) return;
  Violation violation{invariant, "at " + std::to_string(events_.now()) + " ns: " + detail + "\n"};
  if (qp != nullptr) {
    violation.detail += qp->describe();
    if (qp->peer != nullptr) violation.detail += "  peer:\n" + qp->peer->describe();
  }
  violation_ = std::move(violation);
}

bool Oracle::forged(const QpLedger& qp) const {
  return qp.peer != nullptr && fabric_.forged(qp.host, qp.peer->host);
}

void Oracle::posted(QpLedger& qp, SendRecord record) {
  record.posted = events_.now();
  if (qp.peer != nullptr) record.disturbances = fabric_.disturbances(qp.host, qp.peer->host);
  if (record.counter != nullptr) ++record.counter->posted;
  if (record.takes_receive() && record.outlook == Outlook::kFine) {
    Message message;
    record.message = message.number = qp.messages_posted++;
    message.is_write = record.is_write();
    message.has_immediate = record.has_immediate();
    message.invalidates = record.opcode == base::WrOpcode::kSendWithInvalidate;
    message.immediate = message.invalidates ? record.invalidate_key : record.immediate;
    message.length = record.length;
    message.content = record.content;
    if (message.is_write) {
      message.written = record.landings;
      message.target = record.target;
      message.written_to = record.landing_arena;
    }
    qp.messages.push_back(std::move(message));
    // Of an unreliable QP's, nobody says which were lost: the last are enough to look among.
    constexpr size_t kRemembered = 1 << 15;
    if (qp.type != base::QpType::kReliable && qp.messages.size() > kRemembered) {
      qp.messages.pop_front();
    }
  }
  qp.note(events_.now(), "posted send (wr_id, opcode)", record.wr_id,
          static_cast<uint64_t>(record.opcode));
  qp.sends.push_back(std::move(record));
}

void Oracle::posted(QpLedger& qp, ReceiveRecord record) {
  ++qp.receives_posted;
  qp.receives.push_back(std::move(record));
}

void Oracle::posted(SrqLedger& srq, ReceiveRecord record) {
  srq.posted.emplace(record.wr_id, std::move(record));
}

void Oracle::may_fail(QpLedger& qp, const char* why) {
  qp.may_fail = true;
  qp.note(events_.now(), why);
}

void Oracle::completed(QpLedger& qp, const pipe::CompletionEntry& entry) {
  trace_.note(events_.now(), qp.number, entry.wr_id,
              uint64_t{entry.status} << 32 | entry.byte_length,
              uint64_t{entry.opcode} << 32 | entry.immediate);
  qp.note(events_.now(),
          entry.is_send != 0 ? "send done (wr_id, status)" : "receive done (wr_id, status)",
          entry.wr_id, entry.status);
  if (qp.silent || broken()) return;
  if (qp.destroyed) return violate("completion of a destroyed QP", &qp, "came too late");
  if (entry.is_send != 0) {
    send_completed(qp, entry);
  } else {
    receive_completed(qp, entry);
  }
}

void Oracle::check_flushed(QpLedger& qp) {
  if (qp.silent || broken()) return;
  // What asked for no completion may have succeeded before; of the rest, each has had one.
  while (!qp.sends.empty() && !qp.sends.front().signalled && !qp.sends_failed) {
    retire(qp, qp.sends.front(), WcStatus::kSuccess);
    qp.sends.pop_front();
  }
  if (!qp.sends.empty()) {
    violate("flush", &qp, std::to_string(qp.sends.size()) + " sends were not flushed");
  }
  if (!qp.receives.empty()) {
    violate("flush", &qp, std::to_string(qp.receives.size()) + " receives were not flushed");
  }
}

void Oracle::free(QpLedger& qp, Arena& arena, const std::vector<Landing>& landings) {
  if (arena.buried()) return;
  for (const Landing& landing : landings) {
    if (!arena.free(landing.address)) violate("guard bytes", &qp, "changed beside a buffer");
  }
}

void Oracle::destroyed(QpLedger& qp) {
  qp.destroyed = true;
  qp.note(events_.now(), "destroyed");
}

void Oracle::pair_destroyed(QpLedger& qp) {
  for (Pending& pending : qp.pending) {
    if (!pending.arena->buried() && !forged(qp) &&
        !partly_equal(*pending.arena, pending.landings, pending.content)) {
      violate("placement", &qp, "an unfinished WRITE left other bytes than its own");
    }
    free(qp, *pending.arena, pending.landings);
  }
  qp.pending.clear();
  for (SendRecord& record : qp.sends) {
    if (record.counter != nullptr) ++record.counter->unknown;
    if (record.landing_arena != nullptr && record.owns_landings) {
      free(qp, *record.landing_arena, record.landings);
    }
  }
  qp.sends.clear();
  for (const ReceiveRecord& record : qp.receives) free(qp, *qp.arena, record.landings);
  qp.receives.clear();
  qp.messages.clear();
}

void Oracle::silence(QpLedger& qp) {
  qp.silent = true;
  qp.may_fail = true;
  qp.note(events_.now(), "its owner is gone");
}

bool Oracle::drained(const QpLedger& qp) const {
  const bool delivers = qp.type == base::QpType::kReliable && !forged(qp);
  return qp.sends.empty() && (!delivers || qp.messages.empty());
}

void Oracle::check_arena(const Arena& arena, const char* whose) {
  if (arena.stained() || !arena.untouched()) {
    violate("placement", nullptr, std::string("bytes were written that nobody held: ") + whose);
  }
}

}  // namespace flexins::sim
