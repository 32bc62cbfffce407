#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace flexins::memory {

/// How an application's bytes are reached (docs/architecture.md, "Windows"), best first.
enum class WindowKind : uint8_t {
  kShared = 0,      ///< the pages are a shared object that the engine maps too
  kAdopted = 1,     ///< the pages were moved into a sealed memfd at registration
  kDescriptor = 2,  ///< reads and writes through the application's /proc/self/mem
  kDirect = 3,      ///< the engine's own memory (simulation, tests)
};

[[nodiscard]] constexpr std::string_view to_string(WindowKind kind) {
  switch (kind) {
    case WindowKind::kShared: return "shared";
    case WindowKind::kAdopted: return "adopted";
    case WindowKind::kDescriptor: return "descriptor";
    case WindowKind::kDirect: return "direct";
  }
  return "unknown";
}

/// How an access to an application's memory ended.
enum class AccessResult : uint8_t {
  kDone,
  kFailed,  ///< unmapped, truncated, or its program has ended: it will not do better
  kLater,   ///< the memory does not answer at present; perhaps some was accessed already. Try again
};

/// A run of bytes that either is mapped here (`data` set) or is not (`data` null: use read/write).
struct Extent {
  std::byte* data = nullptr;
  uint64_t length = 0;
};

/// A view of one registered range of an application's address space. Addresses are the
/// application's. Callers have checked key, access and bounds; a window may still fail because the
/// application unmapped, truncated or died: then it says so, it never ends the process.
class Window {
 public:
  virtual ~Window() = default;

  /// The longest run from `address` on, at most `length` bytes, that is uniformly mapped or
  /// uniformly unmapped here. `length` > 0; the returned length is in [1, length].
  [[nodiscard]] virtual Extent resolve(uint64_t address, uint64_t length) noexcept = 0;

  /// Copies out of the application. Unless kDone, what `out` holds is undefined.
  [[nodiscard]] virtual AccessResult read(uint64_t address, std::span<std::byte> out) noexcept = 0;

  /// Copies into the application in placement order: increasing addresses, the last bytes stored
  /// last with release order, aligned 8-byte words whole. After kLater the same bytes are to be
  /// written again before others.
  [[nodiscard]] virtual AccessResult write(uint64_t address,
                                           std::span<const std::byte> in) noexcept = 0;

  /// The kind that reaches most of the range; for reports.
  [[nodiscard]] virtual WindowKind kind() const noexcept = 0;

  /// True when mapped bytes can vanish (unsealed object): touch them inside base::guarded only.
  [[nodiscard]] virtual bool needs_guard() const noexcept = 0;
};

/// memcpy in placement order (see Window::write): what a poller of the last byte may rely on.
void copy_tail_last(std::byte* to, const std::byte* from, size_t length) noexcept;

}  // namespace flexins::memory
