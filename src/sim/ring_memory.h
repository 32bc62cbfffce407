#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>

#include "engine/engine.h"

namespace flexins::sim {

/// Zeroed memory of a ring, which a daemon would have shared.
class RingMemory {
 public:
  explicit RingMemory(size_t bytes)
      : bytes_(bytes),
        memory_(static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded(bytes)))) {
    std::memset(memory_.get(), 0, rounded(bytes));
  }
  [[nodiscard]] engine::RingMemory get() const { return {memory_.get(), bytes_}; }
  [[nodiscard]] std::byte* data() const { return memory_.get(); }

 private:
  static constexpr size_t kAlignment = 64;
  static size_t rounded(size_t bytes) { return (bytes + kAlignment - 1) & ~(kAlignment - 1); }
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  size_t bytes_;
  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace flexins::sim
