#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "memory/window.h"

/// The application's half of windows: decides how a registration will be reached, and moves pages
/// where that helps. Runs inside the application's process; thread-safe.

namespace flexins::window {

/// A page-aligned run of the registration that the engine can map.
struct ClientSegment {
  uint64_t address = 0;
  uint64_t length = 0;
  int fd = -1;  ///< of this process, borrowed: valid until release()
  uint64_t offset = 0;
  memory::WindowKind kind = memory::WindowKind::kShared;
  bool writable = true;
};

/// What registering a range came to. Sorted, disjoint; what no segment covers is reached by
/// descriptor.
struct Preparation {
  uint64_t ticket = 0;  ///< for release()
  std::vector<ClientSegment> segments;
};

/// Environment: FLEXINS_ADOPT=0 turns adoption off, FLEXINS_WINDOW=shared|adopted|descriptor
/// allows only that kind (descriptor is always the fallback).
class WindowClient {
 public:
  virtual ~WindowClient() = default;
  /// One per process.
  static WindowClient& instance();

  /// Errors: EFAULT where the range is not mapped at all or, with `need_write`, not writable; what
  /// is merely not adoptable is no error. `on_demand`: skip the check that all of it is mapped;
  /// such a registration follows the address space, so all of it is left to the descriptor.
  virtual base::Result<Preparation> prepare(uint64_t address, uint64_t length, bool need_write,
                                            bool on_demand) = 0;
  /// Undoes prepare once no other registration covers the pages. Call after the engine has
  /// confirmed the deregistration.
  virtual void release(uint64_t ticket) = 0;

  /// A descriptor of /proc/self/mem of *this* process (reopened after fork), or -1.
  virtual int memory_descriptor() = 0;
};

/// ---- For whoever sees the program's own system calls (the preload). Cheap where nothing was
/// registered; thread-safe. ----

/// While pages are adopted or given back, a system call that writes to them fails with EFAULT (or
/// comes back short). Take the count before the call; after such a result ask
/// page_moves_since(): true says that pages moved meanwhile and have arrived: repeat the call.
[[nodiscard]] uint64_t page_move_count() noexcept;
[[nodiscard]] bool page_moves_since(uint64_t count) noexcept;

/// [address, address + length) has just been unmapped, or mapped anew (munmap, mmap MAP_FIXED, brk,
/// mremap: both places).
void note_unmapped(uint64_t address, uint64_t length) noexcept;
/// The program has just given the range back and expects zeroes (madvise MADV_DONTNEED). Pages that
/// are adopted are shared ones, on which the kernel's MADV_DONTNEED does not do that.
void note_dontneed(uint64_t address, uint64_t length) noexcept;
/// Around a fork that runs no pthread_atfork handlers (_Fork, clone without CLONE_VM): the child
/// has nothing where pages are adopted, rather than our pages. In the parent.
void before_bare_fork() noexcept;
void after_bare_fork() noexcept;

}  // namespace flexins::window
