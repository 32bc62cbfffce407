#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "base/random.h"

namespace flexins::sim {

/// A small generator (splitmix64) that replays from its seed. Each concern of a run has one of its
/// own, so that a change in how one of them draws leaves the others as they were.
class Random final : public base::RandomSource {
 public:
  explicit Random(uint64_t seed) : seed_(seed), state_(seed) {}

  [[nodiscard]] uint64_t next() noexcept override { return mix(state_ += kStep); }
  /// In [0, limit); `limit` > 0.
  [[nodiscard]] uint64_t below(uint64_t limit) noexcept {
    return static_cast<uint64_t>((static_cast<Wide>(next()) * limit) >> 64);
  }
  /// In [low, high].
  [[nodiscard]] uint64_t between(uint64_t low, uint64_t high) noexcept {
    return low + below(high - low + 1);
  }
  /// In [low, high], low > 0: each order of magnitude as likely as the others.
  [[nodiscard]] uint64_t spread(uint64_t low, uint64_t high) noexcept {
    const auto bits = static_cast<uint64_t>(std::bit_width(high / low));
    const uint64_t top = low << below(bits);
    const uint64_t value = top + below(top);
    return value > high ? between(top, high) : value;
  }
  [[nodiscard]] bool chance(double probability) noexcept {
    return static_cast<double>(next() >> 11) * 0x1p-53 < probability;
  }
  template <typename Container>
  [[nodiscard]] auto& pick(Container& from) noexcept {
    return from[below(from.size())];
  }
  /// The generator of one concern: the same whatever this one has drawn so far.
  [[nodiscard]] Random fork(std::string_view concern, uint64_t index = 0) const noexcept {
    uint64_t hash = mix(seed_ ^ 0x5157'ed27'0f1e'3a91u);
    for (const char c : concern) hash = mix(hash ^ static_cast<uint8_t>(c));
    return Random(mix(hash ^ index * kStep));
  }

  [[nodiscard]] static constexpr uint64_t mix(uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9u;
    z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11ebu;
    return z ^ (z >> 31);
  }

 private:
  __extension__ using Wide = unsigned __int128;
  static constexpr uint64_t kStep = 0x9e37'79b9'7f4a'7c15u;
  uint64_t seed_;
  uint64_t state_;
};

}  // namespace flexins::sim
