#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/memory.h"
#include "integrity/plan.h"

namespace integrity {

/// One registered area, and beside it an image of what must be in it.
class Area {
 public:
  Area(example::Source source, size_t bytes) : memory_(source, bytes), image_(bytes) {}

  [[nodiscard]] std::byte* data() const { return memory_.data(); }
  [[nodiscard]] size_t bytes() const { return memory_.bytes(); }
  [[nodiscard]] std::string_view name() const { return to_string(memory_.source()); }

  /// What the program itself writes: into the memory and the image.
  void store(const Piece& piece, uint64_t pattern, uint64_t start);
  /// What the other side, or a READ, must have written: into the image only.
  void expect(uint64_t offset, uint64_t length, uint64_t pattern, uint64_t start);
  void expect(uint64_t offset, const void* bytes, size_t length);
  /// Offset of the first byte in [0, end) that differs from the image; -1 if none does.
  [[nodiscard]] int64_t first_difference(size_t end) const;
  [[nodiscard]] std::byte expected(size_t offset) const { return image_[offset]; }

 private:
  example::Memory memory_;
  std::vector<std::byte> image_;
};

}  // namespace integrity
