#pragma once

#include <cstddef>
#include <cstdint>

namespace flexins::base {

/// Where unguessable numbers come from. An argument, so that a simulation replays from its seed.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  /// 64 unpredictable bits.
  [[nodiscard]] virtual uint64_t next() noexcept = 0;
};

/// The kernel's CSPRNG (getrandom), read in blocks. Not for use from two threads at once.
class SystemRandom final : public RandomSource {
 public:
  [[nodiscard]] uint64_t next() noexcept override;

 private:
  static constexpr size_t kBlock = 64;
  uint64_t block_[kBlock] = {};
  size_t used_ = kBlock;
};

}  // namespace flexins::base
