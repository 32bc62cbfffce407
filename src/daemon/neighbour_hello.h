#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "wire/mad.h"

/// The management datagrams by which two engines find out that they are on one machine, and the
/// messages on the unix socket over which they then agree on shared memory. The exchange:
///
///     A → B  datagram  Hello{place, A, token a}     sent to the address that A wants to reach
///     B → A  socket    Greeting{a}                  so B has read what was sent to that address
///     B → A  datagram  Answer{place, B, token b}    sent to the address that the Hello came from
///     A → B  socket    Offer{b} + rings, eventfd    so A has read what was sent to its address
///     B → A  socket    Accept{} + eventfd
///
/// Neither believes an address that the other merely names: two hosts in different networks may
/// have the same one.

namespace flexins::daemon {

using Secret = std::array<uint8_t, 16>;

/// Vendor range 2 (volume 1, 16.5): any class, told apart by an OUI; ours is locally administered.
inline constexpr uint8_t kMadClassNeighbour = 0x3e;
inline constexpr uint8_t kNeighbourVersion = 1;

struct NeighbourMad {
  enum class Kind : uint16_t { kHello = 1, kAnswer = 2 };
  Kind kind = Kind::kHello;
  Secret place{};       ///< of the meeting directory: both see the same one
  uint64_t engine = 0;  ///< the sender's number there
  Secret token{};
  friend bool operator==(const NeighbourMad&, const NeighbourMad&) = default;
};

/// None: something else, or of another version.
[[nodiscard]] std::optional<NeighbourMad> parse_neighbour_mad(
    std::span<const std::byte, wire::kMadBytes> mad) noexcept;
void emit_neighbour_mad(const NeighbourMad& mad,
                        std::span<std::byte, wire::kMadBytes> out) noexcept;

/// What travels on the socket; each is one datagram of this size.
struct NeighbourMessage {
  static constexpr uint32_t kMagic = 0x464e'5368;  // "FNSh"
  enum class Kind : uint32_t { kGreeting = 1, kOffer = 2, kAccept = 3 };
  uint32_t magic = kMagic;
  uint32_t ring_version = 0;  ///< port::kShmRingVersion
  Kind kind = Kind::kGreeting;
  uint32_t reserved = 0;
  Secret token{};
};
static_assert(sizeof(NeighbourMessage) == 32);

}  // namespace flexins::daemon
