#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/unique_fd.h"

namespace flexins::window {

/// Finds the data of a sparse file. SEEK_HOLE takes as long as the data goes on, so a run's end is
/// remembered. Holes are never remembered: what is said to be one, is one now.
class DataCursor {
 public:
  struct Run {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  explicit DataCursor(int fd) noexcept : fd_(fd) {}
  /// The first data in [at, end), cut to it; {end, end} when there is none.
  Run next(uint64_t at, uint64_t end) noexcept;

 private:
  int fd_;
  Run known_;
};

/// Moves pages of this process between private memory and a memfd, at the same addresses, while
/// the program's threads go on: writers to a page under way wait (userfaultfd), no store is lost.
///
/// The memfd is as large as the address space and sparse; the page at address A lives at offset A.
/// So neighbours merge into one mapping, and an address says all about a page.
///
/// While pages move this code makes system calls only, and touches nothing but its own stack:
/// whatever else it wrote to might be among the pages that are held still.
class PageMover {
 public:
  /// Null where the kernel or a sandbox forbids (no userfaultfd in user mode, Linux before 5.19, a
  /// file size limit).
  static std::unique_ptr<PageMover> create();

  [[nodiscard]] int fd() const { return memfd_.get(); }
  [[nodiscard]] dev_t device() const { return device_; }
  [[nodiscard]] ino_t inode() const { return inode_; }

  /// Moves the private pages [begin, end) into the memfd. Pages never touched stay holes. Returns
  /// the end of what was moved; `begin` when nothing was (another userfaultfd, no memory, …).
  uint64_t adopt(uint64_t begin, uint64_t end) noexcept;

  /// The way back: private memory of the same content; the memfd's pages are freed. Returns the end
  /// of what was moved.
  uint64_t restore(uint64_t begin, uint64_t end) noexcept;

  /// restore() without care for other threads, the memfd left as it is: for the child of a fork.
  void copy_in_child(uint64_t begin, uint64_t end) noexcept;

  /// Frees pages: they read as zero afterwards, in every mapping.
  void punch(uint64_t begin, uint64_t end) noexcept;

 private:
  PageMover(base::UniqueFd memfd, dev_t device, ino_t inode)
      : memfd_(std::move(memfd)), device_(device), inode_(inode) {}

  bool adopt_chunk(int userfault, int pagemap, uint64_t begin, uint64_t end) noexcept;
  bool copy_touched(int pagemap, uint64_t begin, uint64_t end) noexcept;
  bool copy_run(uint64_t begin, uint64_t end) noexcept;
  uint64_t replace_all(int userfault, uint64_t begin, uint64_t end) noexcept;
  bool restore_chunk(int userfault, DataCursor& cursor, uint64_t copy, uint64_t begin,
                     uint64_t end) noexcept;
  bool fill(DataCursor& cursor, uint64_t copy, uint64_t begin, uint64_t end) noexcept;
  bool replace(uint64_t copy, uint64_t begin, uint64_t end) noexcept;
  bool map_shared(uint64_t begin, uint64_t end) noexcept;
  void populate(uint64_t begin, uint64_t end) noexcept;

  base::UniqueFd memfd_;
  dev_t device_;
  ino_t inode_;
};

/// Chunks begun and ended, all movers: what a program's call that met a page under way needs.
extern std::atomic<uint64_t> moves_begun;
extern std::atomic<uint64_t> moves_ended;

}  // namespace flexins::window
