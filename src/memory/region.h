#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include <absl/container/flat_hash_map.h>

#include "base/ids.h"
#include "base/random.h"
#include "base/result.h"
#include "base/verbs_types.h"
#include "memory/window.h"

namespace flexins::memory {

/// A registered memory region. `[address, address + length)` is what keys grant; application
/// virtual address = named address - address + window_base (they differ for zero-based and iova
/// registrations).
struct Region {
  base::MemoryKey key;
  base::PdId pd;
  uint64_t address = 0;      ///< first address as work requests name it (iova)
  uint64_t length = 0;       ///< bytes; 0 grants nothing
  uint64_t window_base = 0;  ///< application virtual address of the first byte
  uint32_t access = 0;       ///< base::AccessFlags
  std::shared_ptr<Window> window;
  uint32_t bound_windows = 0;  ///< memory windows that show part of it
  /// It is itself what a memory window shows: for remote access only, and, if this is set, only
  /// through this QP.
  bool is_memory_window = false;
  base::Qpn only_qpn;

  [[nodiscard]] uint64_t window_address(uint64_t named) const {
    return named - address + window_base;
  }
};

/// Bits of a memory window's key that its owner chooses; the others tell windows apart.
inline constexpr uint32_t kWindowKeyVariantBits = 8;

/// What a bind work request asks for (IBTA 10.6.7.2).
struct Binding {
  base::MemoryKey window;   ///< a key of the window
  base::MemoryKey new_key;  ///< the key that it gets: the same but for the low 8 bits
  base::MemoryKey region;
  uint64_t address = 0;  ///< as the region's key names it
  uint64_t length = 0;   ///< bytes; 0 with type 1: the window grants nothing any more
  uint32_t access = 0;   ///< base::AccessFlags, remote ones and kAccessZeroBased
  base::PdId pd;         ///< of the QP
  base::Qpn qpn;         ///< of the QP
};

enum class AccessError : uint8_t { kNone, kNoSuchKey, kWrongPd, kNotPermitted, kOutOfBounds };

/// Regions by key. Control path inserts and erases between steps; the data path only looks up.
class RegionTable {
 public:
  explicit RegionTable(base::RandomSource& random) : random_(random) {}

  /// Takes the region, gives it an unguessable key that is not in use, not 0, and not among the
  /// last kFreedKept freed ones: a peer's late request must not hit a younger region. Errors:
  /// EINVAL when address + length or window_base + length wraps; ENOMEM at Limits::kMaxMr.
  base::Result<base::MemoryKey> insert(Region region);
  /// False when there is no such key.
  bool erase(base::MemoryKey key);
  [[nodiscard]] Region* find(base::MemoryKey key) noexcept;
  [[nodiscard]] size_t size() const { return regions_.size(); }

  /// A memory window, not bound. Of its key, the upper 24 bits are unguessable and stay; the lower
  /// 8 are chosen anew with each bind. Errors: ENOMEM at Limits::kMaxMw.
  base::Result<base::MemoryKey> allocate_window(base::PdId pd, base::MwType type);
  /// Takes the window back, bound or not; `key`: any that it had. False when there is none.
  bool free_window(base::MemoryKey key);
  /// Makes the window show part of a region. False, and nothing is changed, where IBTA 10.6.7.2
  /// forbids it: wrong PD, a region without kAccessMwBind, out of its bounds, rights that it lacks,
  /// or a type 2 window that is bound already. Does not allocate.
  [[nodiscard]] bool bind(const Binding& binding) noexcept;
  /// Ends what a bound window of type 2 grants; only the QP that bound it may. False otherwise.
  [[nodiscard]] bool invalidate(base::MemoryKey key, base::PdId pd, base::Qpn qpn) noexcept;

  /// Looks up `key` and checks PD, all of `access`, and that [address, address + length) lies
  /// inside. Length 0 needs no valid key (IBTA 9.4.x; callers skip the check then). `remote_qpn`:
  /// the QP that a peer's request came over; value 0 for local access, which no window grants.
  struct Checked {
    Region* region = nullptr;
    AccessError error = AccessError::kNone;
  };
  [[nodiscard]] Checked check(base::MemoryKey key, base::PdId pd, uint32_t access, uint64_t address,
                              uint64_t length, base::Qpn remote_qpn = {}) noexcept;

 private:
  /// `region` is null while the window is not bound; `shown.key` is its present key.
  struct MemoryWindow {
    base::MwType type = base::MwType::kType1;
    Region shown;
    Region* region = nullptr;
  };

  static constexpr size_t kFreedKept = 256;

  [[nodiscard]] bool recently_freed(uint32_t key) const;
  void remember_freed(uint32_t key);
  [[nodiscard]] bool index_in_use(uint32_t index) const;
  [[nodiscard]] MemoryWindow* find_window(base::MemoryKey key) noexcept;
  static void unbind(MemoryWindow& window) noexcept;

  base::RandomSource& random_;
  absl::flat_hash_map<uint32_t, std::unique_ptr<Region>> regions_;
  absl::flat_hash_map<uint32_t, std::unique_ptr<MemoryWindow>> windows_;  ///< by key >> 8
  std::array<uint32_t, kFreedKept> freed_{};
  size_t freed_next_ = 0;
};

/// Appends references to `length` bytes at named address `address` of `region` to `pieces`. Runs
/// that are not mapped are read into `staging` and referenced there.
/// `used` is set to the pieces used; `staging` advances past the bytes used, `staged_bytes` grows
/// by them. kFailed also when `pieces` or `staging` is too short.
[[nodiscard]] AccessResult gather(Region& region, uint64_t address, uint32_t length,
                                  std::span<iovec> pieces, size_t& used,
                                  std::span<std::byte>& staging, uint64_t& staged_bytes) noexcept;

/// Copies `pieces`, `offset` bytes in, to `length` bytes at named address `address`, in placement
/// order. kFailed also when the pieces are too short. After kLater, repeat it before anything else
/// is placed there.
[[nodiscard]] AccessResult place(Region& region, uint64_t address, std::span<const iovec> pieces,
                                 uint64_t offset, uint64_t length) noexcept;

}  // namespace flexins::memory
