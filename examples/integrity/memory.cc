#include "integrity/memory.h"

#include <algorithm>
#include <cstring>

namespace integrity {

void Area::store(const Piece& piece, uint64_t pattern, uint64_t start) {
  fill_pattern(pattern, start, data() + piece.offset, piece.length);
  memcpy(image_.data() + piece.offset, data() + piece.offset, piece.length);
}

void Area::expect(uint64_t offset, uint64_t length, uint64_t pattern, uint64_t start) {
  fill_pattern(pattern, start, image_.data() + offset, length);
}

void Area::expect(uint64_t offset, const void* bytes, size_t length) {
  memcpy(image_.data() + offset, bytes, length);
}

int64_t Area::first_difference(size_t end) const {
  end = std::min(end, image_.size());
  if (memcmp(data(), image_.data(), end) == 0) return -1;
  return std::mismatch(data(), data() + end, image_.data()).first - data();
}

}  // namespace integrity
