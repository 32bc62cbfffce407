#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/random.h"

/// What the fuzz targets make of the bytes that they are given.

namespace flexins::fuzz {

/// The input, read from the front; zeros behind its end.
class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  uint8_t byte() {
    const auto first = take(1);
    return first.empty() ? uint8_t{0} : std::to_integer<uint8_t>(first[0]);
  }
  /// At most `count` bytes.
  std::span<const std::byte> take(size_t count) {
    const auto front = bytes_.first(std::min(count, bytes_.size()));
    bytes_ = bytes_.subspan(front.size());
    return front;
  }
  /// Overwrites the front of `object`, as much as there is.
  template <typename Object>
  void fill(Object& object) {
    const auto front = take(sizeof object);
    if (!front.empty()) std::memcpy(static_cast<void*>(&object), front.data(), front.size());
  }

 private:
  std::span<const std::byte> bytes_;
};

/// Small numbers, so that the fuzzer can guess those that an engine draws.
class Counting final : public base::RandomSource {
 public:
  uint64_t next() noexcept override { return ++last_; }

 private:
  uint64_t last_ = 0;
};

}  // namespace flexins::fuzz
