#include <algorithm>

#include "transport/packet_builder.h"
#include "transport/requester.h"

/// Which request comes next, and whether it may.

namespace flexins::transport {

using base::QpState;
using base::WcStatus;

namespace {

/// Half of what 24-bit PSNs tell apart (IBTA 9.7.2), whatever the peer's window is.
constexpr uint64_t kMaxOutstandingPackets = 1u << 22;

}  // namespace

TxStatus Requester::next_packet(wire::TxPacket& out, base::TimeNs now) noexcept {
  if (core_.state != QpState::kReadyToSend && core_.state != QpState::kSendQueueDrained) {
    return TxStatus::kIdle;
  }
  if (rnr_deadline_ != base::kNever || core_.memory_deadline != base::kNever) {
    return TxStatus::kIdle;
  }
  for (;;) {
    switch (take_turn()) {
      case Turn::kSend:
        if (transmit(out, now)) return TxStatus::kPacket;
        if (core_.memory_deadline != base::kNever) return TxStatus::kIdle;
        break;  // its memory is gone: the next turn sees the error
      case Turn::kBlockedOnPeer: return TxStatus::kBlockedOnPeer;
      case Turn::kIdle: return TxStatus::kIdle;
    }
  }
}

Requester::Turn Requester::take_turn() noexcept {
  skip_known();
  const auto wait = [this](Turn why) { return solicit() ? Turn::kSend : why; };
  skip_local();
  while (cursor_ != queue_.tail() && queue_.at(cursor_).is_local() && cursor_ == started_) {
    if (!may_start(queue_.at(cursor_))) return wait(Turn::kIdle);
    complete_local();
    skip_local();
  }
  if (cursor_ == queue_.tail()) return wait(Turn::kIdle);
  SendEntry& entry = queue_.at(cursor_);
  if (cursor_ == started_ && !may_start(entry)) return wait(Turn::kIdle);
  if (entry.error != WcStatus::kSuccess) {
    if (cursor_ != queue_.head()) return wait(Turn::kIdle);
    fail_head(entry.error);
    return Turn::kIdle;
  }
  if (entry.wants_response() && reads_in_flight_ >= core_.attributes.max_rd_atomic) {
    return wait(Turn::kIdle);
  }
  const Segment segment = segment_at(entry, next_psn_);
  if (next_psn_ + segment.packets - unacked_ > kMaxOutstandingPackets) return wait(Turn::kIdle);
  if (!window_admits(cost(entry, next_psn_, next_psn_ + segment.packets))) {
    return wait(Turn::kBlockedOnPeer);
  }
  return Turn::kSend;
}

bool Requester::may_start(SendEntry& entry) noexcept {
  if (core_.state != QpState::kReadyToSend) return false;
  if ((entry.flags & base::kSendFence) != 0 && reads_started_ > 0) return false;
  entry.first_psn = next_psn_;
  entry.packets = entry.is_local() ? 0 : entry.is_atomic() ? 1 : core_.packets_of(entry.length);
  if (entry.error == WcStatus::kSuccess) {
    entry.error = entry.is_local() ? execute_local(entry) : validate(entry);
  }
  if (entry.wants_response()) ++reads_started_;
  ++started_;
  return true;
}

WcStatus Requester::validate(const SendEntry& entry) noexcept {
  if (entry.wants_response() && core_.attributes.max_rd_atomic == 0) {
    return WcStatus::kLocalQpOperation;
  }
  const bool stores = entry.is_read() || entry.is_atomic();
  const uint32_t access = stores ? base::kAccessLocalWrite : 0u;
  return sges_granted(domain(), queue_.sges(cursor_), access) ? WcStatus::kSuccess
                                                              : WcStatus::kLocalProtection;
}

/// What memory windows grant changes at once: requests of ours that are under way need none of it.
WcStatus Requester::execute_local(const SendEntry& entry) noexcept {
  memory::RegionTable& regions = *core_.config.regions;
  bool done = false;
  if (entry.opcode == base::WrOpcode::kLocalInvalidate) {
    done = regions.invalidate(base::MemoryKey{entry.immediate}, core_.config.pd, core_.config.qpn);
  } else {
    memory::Binding binding;
    binding.window = base::MemoryKey{entry.immediate};
    binding.new_key = base::MemoryKey{entry.remote_key};
    binding.region = base::MemoryKey{static_cast<uint32_t>(entry.swap)};
    binding.address = entry.remote_address;
    binding.length = entry.compare_add;
    binding.access = static_cast<uint32_t>(entry.swap >> 32);
    binding.pd = core_.config.pd;
    binding.qpn = core_.config.qpn;
    done = regions.bind(binding);
  }
  return done ? WcStatus::kSuccess : WcStatus::kMwBind;
}

/// Past what was done here already.
void Requester::skip_local() noexcept {
  while (cursor_ != started_ && queue_.at(cursor_).is_local() &&
         queue_.at(cursor_).error == WcStatus::kSuccess) {
    ++cursor_;
  }
}

/// After going back for a lost READ response, what the peer is known to have is not sent again.
void Requester::skip_known() noexcept {
  while (cursor_ != started_ && next_psn_ < known_) {
    const SendEntry& entry = queue_.at(cursor_);
    if (entry.wants_response()) return;
    const uint64_t to = std::min(entry.end_psn(), known_);
    charge(cost(entry, next_psn_, to));
    next_psn_ = to;
    if (to == entry.end_psn()) ++cursor_;
  }
}

/// Nothing more can be sent now. If what was sent last did not ask for an acknowledgement, steps
/// back to it so that it is sent once more and does; else the queue could wait for ever. Not needed
/// while a READ or atomic is in flight: its answer moves the queue.
bool Requester::solicit() noexcept {
  if (reads_in_flight_ > 0) return false;
  if (next_psn_ <= ack_requested_end_ || next_psn_ == unacked_) return false;
  --next_psn_;
  while (cursor_ == started_ || queue_.at(cursor_).is_local() ||
         queue_.at(cursor_).first_psn > next_psn_) {
    --cursor_;
  }
  uncharge(cost(queue_.at(cursor_), next_psn_, next_psn_ + 1));
  soliciting_ = true;
  return true;
}

bool Requester::transmit(wire::TxPacket& out, base::TimeNs now) noexcept {
  SendEntry& entry = queue_.at(cursor_);
  const Segment segment = segment_at(entry, next_psn_);
  begin_packet(core_, out);
  const memory::AccessResult built = build_payload(entry, segment, out);
  if (built != memory::AccessResult::kDone) {
    if (built == memory::AccessResult::kLater) {
      core_.await_memory(now);
    } else {
      entry.error = WcStatus::kLocalProtection;
    }
    return false;
  }
  wire::Headers headers;
  build_headers(entry, segment, headers);
  const uint64_t bytes = cost(entry, next_psn_, next_psn_ + segment.packets);
  headers.bth.ack_request = soliciting_ || wants_ack(entry, segment, bytes);
  finish_packet(core_, headers, out);
  account_sent(entry, segment, headers.bth.ack_request);
  if (ack_deadline_ == base::kNever) restart_ack_timer(now);
  return true;
}

void Requester::account_sent(const SendEntry& entry, const Segment& segment, bool asked) noexcept {
  if (next_psn_ < sent_end_) ++core_.counters.packets_retransmitted;
  const uint64_t bytes = cost(entry, next_psn_, next_psn_ + segment.packets);
  charge(bytes);
  if (entry.wants_response()) ++reads_in_flight_;
  next_psn_ += segment.packets;
  sent_end_ = std::max(sent_end_, next_psn_);
  if (next_psn_ == entry.end_psn()) ++cursor_;
  soliciting_ = false;
  if (asked) {
    ack_requested_end_ = std::max(ack_requested_end_, next_psn_);
    unasked_bytes_ = 0;
    unasked_packets_ = 0;
  } else {
    unasked_bytes_ += bytes;
    ++unasked_packets_;
  }
}

}  // namespace flexins::transport
