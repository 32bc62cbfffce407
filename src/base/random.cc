#include "base/random.h"

#include <sys/random.h>

#include "base/check.h"

namespace flexins::base {

uint64_t SystemRandom::next() noexcept {
  if (used_ == kBlock) {
    // Up to 256 bytes never return short once the pool is ready; 512 may, so ask until full.
    auto* out = reinterpret_cast<unsigned char*>(block_);
    size_t filled = 0;
    while (filled < sizeof block_) {
      const ssize_t got = ::getrandom(out + filled, sizeof block_ - filled, 0);
      if (got > 0) filled += static_cast<size_t>(got);
    }
    used_ = 0;
  }
  const uint64_t value = block_[used_];
  block_[used_++] = 0;  // a number given out is not kept
  return value;
}

}  // namespace flexins::base
