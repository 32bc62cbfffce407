#include <algorithm>

#include "sim/connection.h"

/// Work requests of all kinds.

namespace flexins::sim {

using base::QpType;
using base::WrOpcode;

namespace {

constexpr uint32_t kGlobalRouteBytes = 40;
constexpr size_t kPendingMax = 64;

/// `length` bytes of memory cut into at most `pieces_max` runs.
std::vector<uint32_t> cut(uint32_t length, uint32_t pieces_max, Random& random) {
  std::vector<uint32_t> runs;
  while (length > 0 && runs.size() + 1 < pieces_max && random.chance(0.4)) {
    const auto run = static_cast<uint32_t>(random.below(length + 1u));
    runs.push_back(run);
    length -= run;
  }
  if (length > 0 || random.chance(0.5)) runs.push_back(length);
  return runs;
}

}  // namespace

bool Connection::post_receives(Side& side) {
  Endpoint& endpoint = *side.endpoint;
  if (endpoint.options.shared_receives) return true;
  const uint32_t capacity =
      terms_.message_bytes_max + (terms_.type == QpType::kDatagram ? kGlobalRouteBytes : 0);
  while (endpoint.receives_posted - endpoint.receives_done < endpoint.options.max_receive_wr) {
    auto record = side.application->new_receive(capacity, endpoint.options.max_sge);
    if (!record.has_value()) return endpoint.receives_posted != endpoint.receives_done;
    side.application->post_receive(endpoint, std::move(*record));
    if (terms_.starves && random_.chance(0.7)) {
      ++around_.faults[FaultKind::kStarvation];
      return true;
    }
  }
  return true;
}

WrOpcode Connection::draw_opcode() {
  const bool send_only = terms_.type == QpType::kDatagram;
  const bool writes = terms_.type == QpType::kUnreliable;
  switch (random_.below(send_only ? 2 : writes ? 4 : 10)) {
    case 0: return WrOpcode::kSend;
    case 1: return WrOpcode::kSendWithImmediate;
    case 2:
    case 4: return WrOpcode::kRdmaWrite;
    case 3: return WrOpcode::kRdmaWriteWithImmediate;
    case 5:
    case 6: return WrOpcode::kRdmaRead;
    case 7: return WrOpcode::kFetchAdd;
    case 8: return WrOpcode::kCompareSwap;
    default: return WrOpcode::kSend;
  }
}

uint32_t Connection::draw_length() {
  const uint32_t most = terms_.message_bytes_max;
  const uint32_t mtu = 128u << terms_.path_mtu;
  switch (random_.below(around_.scenario.mostly_large ? 12 : 6)) {
    case 0: return 0;
    case 1: return std::min(most, static_cast<uint32_t>(random_.below(64)));
    case 2: {
      const uint64_t around_mtu = mtu * random_.between(1, 8) + random_.between(0, 2) - 1;
      return static_cast<uint32_t>(std::min<uint64_t>(most, around_mtu));
    }
    case 3: return static_cast<uint32_t>(random_.below(most + 1u));
    case 4: return std::min(most, static_cast<uint32_t>(random_.spread(1, 1 << 20)));
    default: return most;
  }
}

/// What is sent: runs of the memory that never changes.
void Connection::draw_content(Side& side, uint32_t length, Draft& draft) {
  const Arena& arena = *side.application->arena();
  for (const uint32_t run : cut(length, side.endpoint->options.max_sge, random_)) {
    const uint64_t address = arena.base() + random_.below(arena.constant_bytes() - run);
    draft.record.content.push_back({arena.at(address), run});
    draft.order.sges.push_back({address, run, side.application->any_key(random_).value});
  }
  draft.record.length = length;
  if (length > side.endpoint->options.max_inline_bytes || random_.chance(0.5)) return;
  draft.order.flags |= base::kSendInline;
  for (const Content& piece : draft.record.content) {
    draft.order.inline_bytes.insert(draft.order.inline_bytes.end(), piece.bytes,
                                    piece.bytes + piece.length);
  }
  draft.order.sges.clear();
}

void Connection::address_datagram(Side& side, Draft& draft) {
  const Endpoint& to = *other(side).endpoint;
  draft.order.remote_address = pipe::pack_datagram_address({side.ah.value, to.qpn.value});
  draft.order.remote_key = terms_.qkey;
}

bool Connection::fill_send(Side& side, Draft& draft) {
  draw_content(side, draw_length(), draft);
  if (terms_.type == QpType::kDatagram) address_datagram(side, draft);
  return true;
}

bool Connection::fill_write(Side& side, Side& peer, Draft& draft) {
  if (!peer.usable() || side.endpoint->ledger->pending.size() >= kPendingMax) return false;
  const uint32_t length = draw_length();
  const auto to = peer.application->arena()->allocate(length);
  if (!to.has_value()) return false;
  draw_content(side, length, draft);
  draft.record.landings = {{*to, length}};
  draft.record.landing_arena = peer.application->arena();
  draft.order.remote_address = *to;
  draft.order.remote_key = peer.application->any_key(random_).value;
  return true;
}

bool Connection::fill_read(Side& side, Side& peer, Draft& draft) {
  if (!peer.usable()) return false;
  const uint32_t length = draw_length();
  const Arena& from = *peer.application->arena();
  const uint64_t address = from.base() + random_.below(from.constant_bytes() - length);
  for (const uint32_t run : cut(length, side.endpoint->options.max_sge, random_)) {
    const auto to = side.application->arena()->allocate(run);
    if (!to.has_value()) {
      for (const Landing& landing : draft.record.landings) {
        static_cast<void>(side.application->arena()->free(landing.address));
      }
      return false;
    }
    draft.record.landings.push_back({*to, run});
    draft.order.sges.push_back({*to, run, side.application->any_key(random_).value});
  }
  draft.record.landing_arena = side.application->arena();
  draft.record.content = {{from.at(address), length}};
  draft.record.length = length;
  draft.order.remote_address = address;
  draft.order.remote_key = random_.chance(0.3) ? peer.application->read_key().value
                                               : peer.application->any_key(random_).value;
  return true;
}

bool Connection::fill_atomic(Side& side, Side& peer, Draft& draft) {
  if (!peer.usable()) return false;
  const auto to = side.application->arena()->allocate(sizeof(uint64_t));
  if (!to.has_value()) return false;
  const bool swaps = draft.record.opcode == WrOpcode::kCompareSwap;
  Counter& counter = peer.application->counter(swaps);
  draft.record.counter = &counter;
  draft.record.landings = {{*to, sizeof(uint64_t)}};
  draft.record.landing_arena = side.application->arena();
  draft.record.length = sizeof(uint64_t);
  draft.order.sges = {{*to, sizeof(uint64_t), side.application->any_key(random_).value}};
  draft.order.remote_address = counter.address;
  draft.order.remote_key = peer.application->any_key(random_).value;
  draft.order.compare_add = 1;
  if (swaps) {
    draft.record.compare = draft.order.compare_add = counter.last_seen;
    draft.record.swap = draft.order.swap = Random::mix(counter.posted + 1) | 1;
  }
  return true;
}

/// Makes the request one that must be refused.
void Connection::spoil(Side& side, Side& peer, Draft& draft) {
  SendRecord& record = draft.record;
  const bool remote = record.is_write() || record.opcode == WrOpcode::kRdmaRead;
  if (terms_.type != QpType::kReliable || record.length == 0) return;
  if (remote && random_.chance(0.6)) {
    record.outlook = Outlook::kRemoteError;
    switch (random_.below(3)) {
      case 0: draft.order.remote_key ^= 1u << random_.below(32); return;
      case 1:
        draft.order.remote_address = peer.application->arena()->base() +
                                     peer.application->arena()->bytes() - record.length + 1;
        return;
      default:
        if (record.is_write()) draft.order.remote_key = peer.application->read_key().value;
        if (!record.is_write()) draft.order.remote_address -= uint64_t{1} << 33;
        return;
    }
  }
  if (draft.order.sges.empty()) return;
  base::Sge& sge = random_.pick(draft.order.sges);
  if (sge.length == 0) return;
  record.outlook = Outlook::kLocalError;
  if (random_.chance(0.5)) {
    sge.key ^= 1u << random_.below(32);
  } else {
    sge.address = side.application->arena()->base() - 1;
  }
}

/// Sends from, or writes to, memory whose registration may end at any time.
void Connection::use_leases(Side& side, Side& peer, Draft& draft) {
  SendRecord& record = draft.record;
  if (record.is_send() && !side.sources.empty() && random_.chance(0.3)) {
    const Registration& from = random_.pick(side.sources);
    if (from.lease->revoked || from.length > terms_.message_bytes_max) return;
    record.content = from.content;
    record.length = from.length;
    record.source = from.lease;
    draft.order.sges = {{from.address, from.length, from.key.value}};
    draft.order.inline_bytes.clear();
    draft.order.flags &= static_cast<uint8_t>(~base::kSendInline);
    return;
  }
  if (!record.is_write() || !random_.chance(0.3)) return;
  Window& window = peer.window;
  if (!peer.targets.empty() && window.stage != Window::Stage::kNone) {
    Registration& into = peer.targets[0];
    const bool over = window.stage == Window::Stage::kInvalid;
    if (window.stage != Window::Stage::kBound && !over) return;
    if (record.length == 0 || record.length > into.length || window.used) return;
    window.used = !over;
    static_cast<void>(peer.application->arena()->free(record.landings[0].address));
    record.owns_landings = false;
    record.landings = {{into.address, record.length}};
    record.target = window.lease;
    if (over) record.outlook = Outlook::kRemoteError;
    draft.order.remote_address = into.address;
    draft.order.remote_key = window.bound_key;
    return;
  }
  if (peer.targets.empty()) return;
  Registration& into = random_.pick(peer.targets);
  if (into.lease->revoked || into.used || record.length > into.length) return;
  into.used = true;
  static_cast<void>(peer.application->arena()->free(record.landings[0].address));
  record.owns_landings = false;
  record.landings = {{into.address, record.length}};
  record.target = into.lease;
  draft.order.remote_address = into.address;
  draft.order.remote_key = into.key.value;
}

void Connection::finish_flags(Side& side, Draft& draft) {
  const Endpoint& endpoint = *side.endpoint;
  const bool due = endpoint.unsignalled + 1 >= terms_.signal_period ||
                   endpoint.unsignalled + 1 >= endpoint.options.max_send_wr;
  if (due || random_.chance(0.1)) draft.order.flags |= base::kSendSignaled;
  if (random_.chance(0.1)) draft.order.flags |= base::kSendFence;
  if (random_.chance(0.2)) draft.order.flags |= base::kSendSolicited;
}

bool Connection::submit(Side& side, Draft& draft) {
  const std::shared_ptr<Arena> arena = draft.record.landing_arena;
  const bool owns = draft.record.owns_landings;
  const std::vector<Landing> landings = draft.record.landings;
  if (side.application->post_send(*side.endpoint, draft.order, std::move(draft.record)))
    return true;
  if (arena == nullptr || !owns) return false;
  for (const Landing& landing : landings) static_cast<void>(arena->free(landing.address));
  return false;
}

/// An empty message that asks for a completion.
void Connection::post_last(Side& side) {
  if (side.endpoint->sends_outstanding() >= side.endpoint->options.max_send_wr) return;
  Draft draft;
  draft.order.flags = base::kSendSignaled;
  if (terms_.type == QpType::kDatagram) address_datagram(side, draft);
  submit(side, draft);
}

bool Connection::post_one(Side& side, Side& peer) {
  if (side.endpoint->sends_outstanding() >= side.endpoint->options.max_send_wr) return false;
  Draft draft;
  SendRecord& record = draft.record;
  record.opcode = draw_opcode();
  record.immediate = static_cast<uint32_t>(random_.next());
  const bool filled = record.is_send()     ? fill_send(side, draft)
                      : record.is_write()  ? fill_write(side, peer, draft)
                      : record.is_atomic() ? fill_atomic(side, peer, draft)
                                           : fill_read(side, peer, draft);
  if (!filled) return false;
  if (terms_.leases) use_leases(side, peer, draft);
  const bool plain = record.source == nullptr && record.target == nullptr;
  if (plain && random_.chance(terms_.illegal)) spoil(side, peer, draft);
  finish_flags(side, draft);
  return submit(side, draft);
}

}  // namespace flexins::sim
