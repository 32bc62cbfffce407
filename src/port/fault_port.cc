#include "port/fault_port.h"

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "base/check.h"
#include "base/fault_guard.h"

namespace flexins::port {

/// A packet that owns all that it names.
struct FaultPort::Slot {
  wire::TxPacket packet;
  wire::Path path;
  uint32_t copies_left = 0;
  base::TimeNs due = base::kNever;
  uint64_t due_sequence = UINT64_MAX;
  std::array<std::byte, wire::kMaxMtuBytes> payload;
};

namespace {

constexpr base::TimeNs kMaxDelay = 10 * base::kSecond;
constexpr base::TimeNs kReorderingHold = base::kMillisecond;
constexpr uint64_t kReorderingDistance = 8;

/// SplitMix64: a well-mixed function of a counter.
uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

uint64_t threshold(double probability) {
  const double scaled = std::ldexp(probability, 64);
  return scaled >= 0x1p64 ? UINT64_MAX : static_cast<uint64_t>(scaled);
}

}  // namespace

bool FaultPort::Fate::clean() const {
  return std::none_of(has.begin(), has.end(), [](bool one) { return one; });
}

FaultPort::FaultPort(Port& inner) : inner_(inner) {}
FaultPort::~FaultPort() = default;

base::Result<void> FaultPort::set(const FaultConfig& config) {
  const std::array<double, kKinds> probabilities = {
      config.loss, config.duplication, config.reordering, config.corruption, config.delay};
  for (const double probability : probabilities) {
    if (!(probability >= 0 && probability <= 1)) {
      return base::Error{EINVAL, "a fault's probability must be between 0 and 1"};
    }
  }
  if (config.delay_min_ns > config.delay_max_ns || config.delay_max_ns > kMaxDelay) {
    return base::Error{EINVAL, "a fault's delay must be a range within 0 to 10 s"};
  }
  config_ = config;
  active_ = false;
  for (size_t i = 0; i < kKinds; ++i) {
    thresholds_[i] = threshold(probabilities[i]);
    active_ |= thresholds_[i] > 0;
  }
  // The count starts anew; those that waited for it leave by time.
  sequence_ = 0;
  next_release_sequence_ = UINT64_MAX;
  for (uint32_t i = 0; i < held_.count; ++i) slots_[held_.slots[i]].due_sequence = UINT64_MAX;
  if (active_ && slots_ == nullptr) {
    slots_.reset(new Slot[kSlots]);
    for (uint16_t i = 0; i < kSlots; ++i) free_.add(i);
  }
  return {};
}

FaultPort::Fate FaultPort::fate_of(uint64_t sequence) const noexcept {
  Fate fate;
  uint64_t draw = mix(config_.seed ^ mix(sequence));
  for (size_t i = 0; i < kKinds; ++i) {
    draw = mix(draw);
    fate.has[i] = thresholds_[i] == UINT64_MAX || draw < thresholds_[i];
  }
  fate.amount = mix(draw);
  return fate;
}

size_t FaultPort::transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept {
  size_t taken = 0;
  do {
    release(now);
    if (!active_) return inner_.transmit(burst, now);
    // What was due before could not leave: the way out is full.
    if (next_release_sequence_ <= sequence_) return taken;
    const size_t left = burst.size() - taken;
    const size_t most = std::min<uint64_t>(left, next_release_sequence_ - sequence_);
    size_t run = 0;
    while (run < most && fate_of(sequence_ + run).clean()) ++run;
    if (run > 0) {
      const size_t sent = inner_.transmit(burst.subspan(taken, run), now);
      taken += sent;
      sequence_ += sent;
      if (sent < run) return taken;
    } else if (left > 0) {
      if (!apply(fate_of(sequence_), burst[taken], now)) return taken;
      ++taken;
      ++sequence_;
    }
  } while (taken < burst.size());
  release(now);
  return taken;
}

bool FaultPort::apply(const Fate& fate, wire::TxPacket& packet, base::TimeNs now) noexcept {
  if (fate.has[kLoss]) {
    ++done_[kLoss];
    lose(packet, "fault injected: loss", now);
    return true;
  }
  if (fate.has[kReordering] || fate.has[kDelay]) {
    if (hold(fate, packet, now)) return true;
    ++no_room_;
  }
  packet.corrupt = fate.has[kCorruption];
  const bool sent = send_one(packet, now);
  if (sent) {
    done_[kCorruption] += fate.has[kCorruption];
    if (fate.has[kDuplication] && send_one(packet, now)) ++done_[kDuplication];
  }
  packet.corrupt = false;
  return sent;
}

bool FaultPort::hold(const Fate& fate, const wire::TxPacket& packet, base::TimeNs now) noexcept {
  if (free_.count == 0) return false;
  const uint16_t index = free_.slots[free_.count - 1];
  Slot& slot = slots_[index];
  FLEXINS_CHECK(packet.payload_length <= slot.payload.size());
  const bool readable = base::guarded(
      [&slot, &packet] { wire::copy_pieces(wire::pieces_of(packet), slot.payload.data()); });
  if (!readable) {
    ++memory_gone_;
    lose(packet, "memory gone", now);
    return true;
  }
  --free_.count;
  slot.path = *packet.path;
  slot.packet.path = &slot.path;
  slot.packet.header_length = packet.header_length;
  slot.packet.header = packet.header;
  slot.packet.pad_count = packet.pad_count;
  slot.packet.payload_length = packet.payload_length;
  slot.packet.piece_count = packet.payload_length > 0 ? 1 : 0;
  slot.packet.pieces[0] = {slot.payload.data(), packet.payload_length};
  slot.packet.corrupt = fate.has[kCorruption];
  slot.copies_left = fate.has[kDuplication] ? 2 : 1;
  slot.due_sequence = UINT64_MAX;
  if (fate.has[kDelay]) {
    const base::TimeNs range = config_.delay_max_ns - config_.delay_min_ns + 1;
    slot.due = now + config_.delay_min_ns + fate.amount % range;
  } else {
    slot.due = now + kReorderingHold;
    slot.due_sequence = sequence_ + 2 + fate.amount % kReorderingDistance;
  }
  next_release_ = std::min(next_release_, slot.due);
  next_release_sequence_ = std::min(next_release_sequence_, slot.due_sequence);
  held_.add(index);
  for (const Kind kind : {kDuplication, kReordering, kCorruption, kDelay}) {
    done_[kind] += fate.has[kind];
  }
  return true;
}

bool FaultPort::send_one(wire::TxPacket& packet, base::TimeNs now) noexcept {
  return inner_.transmit({&packet, 1}, now) == 1;
}

void FaultPort::release(base::TimeNs now) noexcept {
  if (now < next_release_ && sequence_ < next_release_sequence_) return;
  next_release_ = base::kNever;
  next_release_sequence_ = UINT64_MAX;
  uint32_t kept = 0;
  bool full = false;
  for (uint32_t i = 0; i < held_.count; ++i) {
    const uint16_t index = held_.slots[i];
    Slot& slot = slots_[index];
    const bool is_due = slot.due <= now || slot.due_sequence <= sequence_;
    if (is_due && !full && send_held(slot, now)) {
      in_transit_.add(index);
      continue;
    }
    full |= is_due;
    next_release_ = std::min(next_release_, slot.due);
    next_release_sequence_ = std::min(next_release_sequence_, slot.due_sequence);
    held_.slots[kept++] = index;
  }
  held_.count = kept;
}

bool FaultPort::send_held(Slot& slot, base::TimeNs now) noexcept {
  while (slot.copies_left > 0) {
    if (!send_one(slot.packet, now)) return false;
    --slot.copies_left;
  }
  return true;
}

size_t FaultPort::receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept {
  for (uint32_t i = 0; i < settled_.count; ++i) free_.add(settled_.slots[i]);
  settled_.count = 0;
  release(now);
  const size_t n = inner_.receive(burst, now);
  if (n < burst.size()) std::swap(settled_, in_transit_);
  return n;
}

void FaultPort::lose(const wire::TxPacket& packet, std::string_view reason,
                     base::TimeNs now) noexcept {
  if (observer_ != nullptr) observer_->transmit_dropped(packet, reason, now);
}

void FaultPort::observe_drops(DropObserver* observer) {
  observer_ = observer;
  inner_.observe_drops(observer);
}

base::TimeNs FaultPort::next_event() const { return std::min(inner_.next_event(), next_release_); }

std::vector<Counter> FaultPort::counters() const {
  std::vector<Counter> all = inner_.counters();
  all.insert(all.end(), {{"fault_lost", done_[kLoss]},
                         {"fault_duplicated", done_[kDuplication]},
                         {"fault_reordered", done_[kReordering]},
                         {"fault_corrupted", done_[kCorruption]},
                         {"fault_delayed", done_[kDelay]},
                         {"fault_no_room", no_room_},
                         {"fault_memory_gone", memory_gone_}});
  return all;
}

}  // namespace flexins::port
