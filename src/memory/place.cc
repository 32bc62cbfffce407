#include <algorithm>
#include <cstring>

#include "base/fault_guard.h"
#include "memory/region.h"

namespace flexins::memory {
namespace {

constexpr uint64_t kWord = 8;

/// Walks a gather list.
class PieceCursor {
 public:
  PieceCursor(std::span<const iovec> pieces, uint64_t offset) : pieces_(pieces) { skip(offset); }

  /// The contiguous bytes at the cursor; empty at the list's end.
  [[nodiscard]] std::span<const std::byte> run() const {
    if (index_ == pieces_.size()) return {};
    const iovec& piece = pieces_[index_];
    return {static_cast<const std::byte*>(piece.iov_base) + used_, piece.iov_len - used_};
  }

  void skip(uint64_t count) {
    used_ += count;
    while (index_ < pieces_.size() && used_ >= pieces_[index_].iov_len) {
      used_ -= pieces_[index_].iov_len;
      ++index_;
    }
  }

  /// False when the list ends before `count` bytes.
  [[nodiscard]] bool take(std::byte* out, uint64_t count) {
    while (count > 0) {
      const auto bytes = run();
      if (bytes.empty()) return false;
      const uint64_t step = std::min<uint64_t>(bytes.size(), count);
      std::memcpy(out, bytes.data(), step);
      skip(step);
      out += step;
      count -= step;
    }
    return true;
  }

 private:
  std::span<const iovec> pieces_;
  size_t index_ = 0;
  uint64_t used_ = 0;
};

/// `at` is the application's address.
AccessResult place_run(Window& window, uint64_t at, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const Extent extent = window.resolve(at, bytes.size());
    const auto part = bytes.first(extent.length);
    // The copy is guarded whatever this window is: on a local port its source is memory of another
    // application.
    if (extent.data == nullptr) {
      const AccessResult written = window.write(at, part);
      if (written != AccessResult::kDone) return written;
    } else if (!base::guarded(
                   [&]() noexcept { copy_tail_last(extent.data, part.data(), part.size()); })) {
      return AccessResult::kFailed;
    }
    at += extent.length;
    bytes = bytes.subspan(extent.length);
  }
  return AccessResult::kDone;
}

}  // namespace

AccessResult place(Region& region, uint64_t address, std::span<const iovec> pieces, uint64_t offset,
                   uint64_t length) noexcept {
  PieceCursor cursor(pieces, offset);
  uint64_t at = region.window_address(address);
  while (length > 0) {
    auto bytes = cursor.run();
    bytes = bytes.first(std::min<uint64_t>(bytes.size(), length));
    if (bytes.empty()) return AccessResult::kFailed;
    // A word that two pieces share is put together first, so that it is stored whole.
    const uint64_t over = (at + bytes.size()) % kWord;
    std::byte word[kWord];
    if (bytes.size() < length && over != 0) {
      if (over < bytes.size()) {
        bytes = bytes.first(bytes.size() - over);
        cursor.skip(bytes.size());
      } else {
        const uint64_t count = std::min(kWord - at % kWord, length);
        bool taken = false;
        if (!base::guarded([&]() noexcept { taken = cursor.take(word, count); }) || !taken) {
          return AccessResult::kFailed;
        }
        bytes = std::span<const std::byte>(word, count);
      }
    } else {
      cursor.skip(bytes.size());
    }
    const AccessResult placed = place_run(*region.window, at, bytes);
    if (placed != AccessResult::kDone) return placed;
    at += bytes.size();
    length -= bytes.size();
  }
  return AccessResult::kDone;
}

}  // namespace flexins::memory
