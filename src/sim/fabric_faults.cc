#include <algorithm>

#include "sim/fabric.h"
#include "sim/hostile.h"

/// What goes wrong with packets on the way.

namespace flexins::sim {

namespace {

constexpr uint32_t kBthBytes = 12;
constexpr base::TimeNs kHeldNsMax = 200'000;
constexpr uint32_t kBurstFramesMax = 200;

}  // namespace

void Fabric::note_fault(FaultKind kind, const Frame& frame) {
  ++faults_[kind];
  trace_.note(static_cast<uint64_t>(kind) + 1, events_.now(), frame.from_host, frame.to_host);
}

void Fabric::lose_by(FaultKind kind, Frame& frame) {
  note_fault(kind, frame);
  lose(&frame, to_string(kind).data());
}

void Fabric::send(Frame* frame) {
  ++counters_.frames;
  frame->to_host = static_cast<uint16_t>(host_of(frame->destination));
  if (frame->to_host == hosts()) return pool_.give(frame);
  if (tap_ != nullptr) tap_->overhear(*frame);
  if (healed_) return enter(frame);
  if (judge(*frame, path(frame->from_host, frame->to_host)) == Fate::kGo) enter(frame);
}

bool Fabric::loses(const Frame& frame, Path& path, FaultKind& why) {
  const base::TimeNs now = events_.now();
  if (now < path.partitioned_until) {
    why = FaultKind::kPartition;
    return true;
  }
  if (now < path.small_until && frame.length > path.largest_bytes) {
    why = FaultKind::kMtu;
    return true;
  }
  why = FaultKind::kLoss;
  if (plan_[why] > 0 && random(why).chance(plan_[why])) return true;
  why = FaultKind::kBurstLoss;
  if (plan_[why] == 0) return false;
  if (path.burst_left == 0 && random(why).chance(plan_[why])) {
    path.burst_left = static_cast<uint32_t>(random(why).spread(2, kBurstFramesMax));
  }
  if (path.burst_left == 0) return false;
  --path.burst_left;
  return true;
}

Fabric::Fate Fabric::judge(Frame& frame, Path& path) {
  FaultKind why;
  if (loses(frame, path, why)) {
    lose_by(why, frame);
    return Fate::kLost;
  }
  corrupt(frame, path);
  FaultKind kind = FaultKind::kDuplication;
  if (plan_[kind] > 0 && random(kind).chance(plan_[kind])) duplicate(frame, path);
  kind = FaultKind::kReordering;
  if (plan_[kind] > 0 && random(kind).chance(plan_[kind])) {
    note_fault(kind, frame);
    ++path.disturbances;
    hold(frame, random(kind).spread(100, kHeldNsMax));
    return Fate::kHeld;
  }
  if (events_.now() < path.slow_until) {
    note_fault(FaultKind::kDelay, frame);
    ++path.disturbances;
    hold(frame, path.slow_ns);
    return Fate::kHeld;
  }
  return Fate::kGo;
}

void Fabric::corrupt(Frame& frame, Path& path) {
  FaultKind kind = FaultKind::kCorruption;
  if (plan_[kind] > 0 && random(kind).chance(plan_[kind])) {
    note_fault(kind, frame);
    ++path.disturbances;
    const uint64_t bit = random(kind).below(uint64_t{frame.length} * 8);
    frame.bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
  kind = FaultKind::kForgedIcrc;
  if (plan_[kind] > 0 && random(kind).chance(plan_[kind])) {
    // Of the BTH only: what it leads to is refused or ends the connection, but touches no memory
    // that the connection could not have touched.
    note_fault(kind, frame);
    ++path.disturbances;
    path.forged = true;
    const uint64_t bit = random(kind).below(uint64_t{kBthBytes} * 8);
    frame.bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    frame.seal();
  }
}

void Fabric::duplicate(const Frame& frame, Path& path) {
  note_fault(FaultKind::kDuplication, frame);
  ++path.disturbances;
  Random& from = random(FaultKind::kDuplication);
  Frame* copy = pool_.take();
  *copy = frame;
  hold(*copy, from.chance(0.5) ? 0 : from.spread(100, kHeldNsMax));
}

void Fabric::hold(Frame& frame, base::TimeNs wait_ns) {
  events_.after(wait_ns, *this, reinterpret_cast<uint64_t>(&frame));
}

void Fabric::strike(FaultKind kind) {
  Random& from = random(kind);
  ++faults_[kind];
  const base::TimeNs lasts = from.spread(base::kMicrosecond * 50, plan_.duration_ns);
  const base::TimeNs until = events_.now() + lasts;
  Path& struck = paths_[from.below(paths_.size())];
  trace_.note(static_cast<uint64_t>(kind) + 1, events_.now(), until);
  switch (kind) {
    case FaultKind::kPartition: struck.partitioned_until = until; return;
    case FaultKind::kMtu:
      struck.small_until = until;
      struck.largest_bytes = static_cast<uint32_t>(from.spread(64, 4096));
      return;
    case FaultKind::kDelay:
      struck.slow_until = until;
      struck.slow_ns = from.spread(10'000, 100 * base::kMillisecond);
      return;
    case FaultKind::kFlap: {
      const uint64_t index = from.below(links_.size());
      links_[index]->is_cut = true;
      return events_.at(until, *this, index);
    }
    default: return;
  }
}

void Fabric::heal() {
  healed_ = true;
  for (const auto& link : links_) link->is_cut = false;
}

}  // namespace flexins::sim
