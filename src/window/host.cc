#include "window/host.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/fault_guard.h"
#include "window/object_mapping.h"

namespace flexins::window {
namespace {

using memory::AccessResult;
using memory::Extent;
using memory::WindowKind;

/// A segment, cut to the window.
struct Piece {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::byte* data = nullptr;
  bool writable = false;
  std::shared_ptr<ObjectMapping> mapping;
};

class HostWindow final : public memory::Window {
 public:
  HostWindow(std::vector<Piece> pieces, std::shared_ptr<ProcessMemory> process, WindowKind kind)
      : pieces_(std::move(pieces)), process_(std::move(process)), kind_(kind) {
    for (const Piece& piece : pieces_) {
      // A store to a read-only mapping faults too; no caller should try, but one may be misled.
      needs_guard_ = needs_guard_ || piece.mapping->can_vanish() || !piece.writable;
    }
  }
  ~HostWindow() override {
    if (process_ != nullptr) process_->settle();
  }
  HostWindow(const HostWindow&) = delete;
  HostWindow& operator=(const HostWindow&) = delete;

  Extent resolve(uint64_t address, uint64_t length) noexcept override {
    const Piece* piece = first_ending_after(address);
    if (piece == nullptr) return {nullptr, length};
    if (address < piece->begin) return {nullptr, std::min(length, piece->begin - address)};
    return {piece->data + (address - piece->begin), std::min(length, piece->end - address)};
  }

  AccessResult read(uint64_t address, std::span<std::byte> out) noexcept override {
    while (!out.empty()) {
      const Extent extent = resolve(address, out.size());
      const auto part = out.first(extent.length);
      if (extent.data == nullptr) {
        if (process_ == nullptr) return AccessResult::kFailed;
        const AccessResult read = process_->read(address, part);
        if (read != AccessResult::kDone) return read;
      } else if (!base::guarded(
                     [&]() noexcept { std::memcpy(part.data(), extent.data, part.size()); })) {
        return AccessResult::kFailed;
      }
      address += extent.length;
      out = out.subspan(extent.length);
    }
    return AccessResult::kDone;
  }

  AccessResult write(uint64_t address, std::span<const std::byte> in) noexcept override {
    while (!in.empty()) {
      const Extent extent = resolve(address, in.size());
      const auto part = in.first(extent.length);
      if (extent.data == nullptr) {
        if (process_ == nullptr) return AccessResult::kFailed;
        const AccessResult written = process_->write(address, part);
        if (written != AccessResult::kDone) return written;
      } else if (!base::guarded([&]() noexcept {
                   memory::copy_tail_last(extent.data, part.data(), part.size());
                 })) {
        return AccessResult::kFailed;
      }
      address += extent.length;
      in = in.subspan(extent.length);
    }
    return AccessResult::kDone;
  }

  WindowKind kind() const noexcept override { return kind_; }
  bool needs_guard() const noexcept override { return needs_guard_; }

 private:
  [[nodiscard]] const Piece* first_ending_after(uint64_t address) const noexcept {
    const auto found =
        std::upper_bound(pieces_.begin(), pieces_.end(), address,
                         [](uint64_t value, const Piece& piece) { return value < piece.end; });
    return found == pieces_.end() ? nullptr : &*found;
  }

  std::vector<Piece> pieces_;
  std::shared_ptr<ProcessMemory> process_;
  WindowKind kind_;
  bool needs_guard_ = false;
};

base::Result<void> check(uint64_t base, uint64_t length, std::span<const HostSegment> segments) {
  const auto page = static_cast<uint64_t>(::getpagesize());
  if (length > UINT64_MAX - base) return base::Error{EINVAL, "the window wraps around"};
  uint64_t last = 0;
  for (const HostSegment& segment : segments) {
    if (segment.kind != WindowKind::kShared && segment.kind != WindowKind::kAdopted) {
      return base::Error{EINVAL, "a segment is neither shared nor adopted"};
    }
    if (segment.address % page != 0 || segment.length % page != 0 || segment.length == 0 ||
        segment.length > UINT64_MAX - segment.address) {
      return base::Error{EINVAL, "a segment is not a run of whole pages"};
    }
    if (segment.address < last) return base::Error{EINVAL, "segments overlap or are not sorted"};
    last = segment.address + segment.length;
    if (last <= base || segment.address >= base + length) {
      return base::Error{EINVAL, "a segment lies outside the window"};
    }
  }
  return {};
}

}  // namespace

base::Result<std::unique_ptr<memory::Window>> open_window(uint64_t base, uint64_t length,
                                                          std::span<const HostSegment> segments,
                                                          std::shared_ptr<ProcessMemory> process) {
  if (auto checked = check(base, length, segments); !checked.ok()) return checked.error();
  std::vector<Piece> pieces;
  pieces.reserve(segments.size());
  uint64_t covered[2] = {};
  for (const HostSegment& segment : segments) {
    auto mapping = ObjectMapping::map(segment, process.get());
    if (!mapping.ok()) return mapping.error();
    Piece piece;
    piece.begin = std::max(base, segment.address);
    piece.end = std::min(base + length, segment.address + segment.length);
    piece.data = mapping.value()->data() + (piece.begin - segment.address);
    piece.writable = segment.writable;
    piece.mapping = std::move(mapping).value();
    covered[segment.kind == WindowKind::kAdopted] += piece.end - piece.begin;
    pieces.push_back(std::move(piece));
  }
  const uint64_t rest = length - covered[0] - covered[1];
  WindowKind kind = covered[1] > covered[0] ? WindowKind::kAdopted : WindowKind::kShared;
  if (rest > std::max(covered[0], covered[1]) || segments.empty()) kind = WindowKind::kDescriptor;
  return std::unique_ptr<memory::Window>(
      std::make_unique<HostWindow>(std::move(pieces), std::move(process), kind));
}

}  // namespace flexins::window
