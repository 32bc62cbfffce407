#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

namespace flexins::pipe {

/// Zeroed memory as the engine hands it out: aligned to a page.
class RingMemory {
 public:
  explicit RingMemory(size_t bytes)
      : base_(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{4096}))) {
    std::memset(base_, 0, bytes);
  }
  RingMemory(const RingMemory&) = delete;
  RingMemory& operator=(const RingMemory&) = delete;
  ~RingMemory() { ::operator delete (base_, std::align_val_t{4096}); }
  [[nodiscard]] std::byte* base() const { return base_; }

 private:
  std::byte* base_;
};

}  // namespace flexins::pipe
