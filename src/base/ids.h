#pragma once

#include <compare>
#include <cstdint>
#include <utility>

namespace flexins::base {

/// A number with a meaning: two ids of different tags do not mix by accident.
template <typename Tag, typename Rep>
struct StrongId {
  Rep value = 0;
  friend constexpr auto operator<=>(const StrongId&, const StrongId&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const StrongId& id) {
    return H::combine(std::move(h), id.value);
  }
};

/// Queue pair number, 24 bits.
using Qpn = StrongId<struct QpnTag, uint32_t>;
/// The queue pair number of datagrams to a multicast group.
inline constexpr Qpn kMulticastQpn{0xff'ffff};
/// Memory key. A region's local and remote key are one number, as on most RNICs.
using MemoryKey = StrongId<struct MemoryKeyTag, uint32_t>;
/// Handles of engine objects, unique within one engine's life, never reused.
using ContextId = StrongId<struct ContextTag, uint32_t>;
/// Whose a context is; chosen by the engine's owner.
using TenantId = StrongId<struct TenantTag, uint32_t>;
using PdId = StrongId<struct PdTag, uint32_t>;
/// Shared receive queue number, 24 bits; XRC packets carry it.
using Srqn = StrongId<struct SrqnTag, uint32_t>;
using CqId = StrongId<struct CqTag, uint32_t>;
using ChannelId = StrongId<struct ChannelTag, uint32_t>;
using AhId = StrongId<struct AhTag, uint32_t>;
/// An opener's hold on an XRC domain.
using XrcdId = StrongId<struct XrcdTag, uint32_t>;
using FlowId = StrongId<struct FlowTag, uint32_t>;
/// What frames of flows are counted in.
using CountersId = StrongId<struct CountersTag, uint32_t>;
/// Indirection table of receive work queues.
using SpreadTableId = StrongId<struct SpreadTableTag, uint32_t>;

/// Packet sequence number: 24 bits, compared modulo 2^24 (IBTA 9.7.2).
class Psn {
 public:
  static constexpr uint32_t kMask = 0xff'ffff;

  constexpr Psn() = default;
  constexpr explicit Psn(uint32_t value) : value_(value & kMask) {}

  [[nodiscard]] constexpr uint32_t value() const { return value_; }
  friend constexpr bool operator==(Psn, Psn) = default;
  friend constexpr Psn operator+(Psn a, uint32_t n) { return Psn(a.value_ + n); }
  friend constexpr Psn operator-(Psn a, uint32_t n) { return Psn(a.value_ - n); }
  constexpr Psn& operator++() { return *this = *this + 1; }

  /// Signed distance `a - b` in [-2^23, 2^23): negative when `a` lies before `b`.
  friend constexpr int32_t distance(Psn a, Psn b) {
    return static_cast<int32_t>((a.value_ - b.value_) << 8) >> 8;
  }

 private:
  uint32_t value_ = 0;
};

}  // namespace flexins::base
