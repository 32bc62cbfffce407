#include "window/page_mover.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace flexins::window {

std::atomic<uint64_t> moves_begun{0};
std::atomic<uint64_t> moves_ended{0};

namespace {

/// All user addresses of four-level paging.
constexpr off_t kAddressSpaceBytes = 1ll << 47;
/// Writers wait for one chunk at a time: at most this many touched bytes, within this much space.
constexpr uint64_t kChunkTouchedBytes = 4ull << 20;
constexpr uint64_t kChunkSpanBytes = 1ull << 30;
constexpr uint64_t kPage = 4096;
constexpr size_t kEntries = 1024;

constexpr uint64_t kPagePresent = 1ull << 63;
constexpr uint64_t kPageSwapped = 1ull << 62;
constexpr uint64_t kPageExclusive = 1ull << 56;

/// Raw calls, here and wherever pages are held: libraries hook libc's wrappers, would think that
/// the program remapped its memory, and might store to memory that is held.
void* raw_mmap(uint64_t address, uint64_t length, int flags, int fd, uint64_t offset) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  return reinterpret_cast<void*>(::syscall(SYS_mmap, address, length, PROT_READ | PROT_WRITE, flags,
                                           fd, static_cast<off_t>(offset)));
}

bool file_size_limited() noexcept {
  struct rlimit limit = {};
  // Writing beyond the limit raises a signal that ends the program.
  return ::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
}

base::UniqueFd open_userfault() noexcept {
  base::UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)));
  if (!fd.valid()) return fd;
  struct uffdio_api api = {};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) fd.reset();
  return fd;
}

/// Holds the writers of a range from construction to destruction. Signals of this thread wait: a
/// handler might write to the range.
class HeldRange {
 public:
  HeldRange(int userfault, uint64_t begin, uint64_t end, uint64_t mode) noexcept
      : userfault_(userfault), range_{begin, end - begin} {
    const uint64_t all = ~0ull;
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask_, sizeof all);
    moves_begun.fetch_add(1, std::memory_order_seq_cst);
    struct uffdio_register request = {};
    request.range = range_;
    request.mode = mode;
    registered_ = ::syscall(SYS_ioctl, userfault_, UFFDIO_REGISTER, &request) == 0;
    held_ = registered_ && protect();
  }
  ~HeldRange() {
    // Where the range was replaced nothing is registered any more, and this only wakes.
    if (registered_ && !replaced_) ::syscall(SYS_ioctl, userfault_, UFFDIO_UNREGISTER, &range_);
    if (registered_) ::syscall(SYS_ioctl, userfault_, UFFDIO_WAKE, &range_);
    moves_ended.fetch_add(1, std::memory_order_seq_cst);
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask_, nullptr, sizeof mask_);
  }
  HeldRange(const HeldRange&) = delete;
  HeldRange& operator=(const HeldRange&) = delete;

  [[nodiscard]] bool held() const noexcept { return held_; }
  void set_replaced() noexcept { replaced_ = true; }

 private:
  bool protect() noexcept {
    struct uffdio_writeprotect request = {};
    request.range = range_;
    request.mode = UFFDIO_WRITEPROTECT_MODE_WP;
    long result = 0;
    do {
      result = ::syscall(SYS_ioctl, userfault_, UFFDIO_WRITEPROTECT, &request);
    } while (result != 0 && errno == EAGAIN);
    return result == 0;
  }

  int userfault_;
  struct uffdio_range range_;
  uint64_t mask_ = 0;
  bool registered_ = false;
  bool held_ = false;
  bool replaced_ = false;
};

/// Entries of [begin, …), at most kEntries and not beyond `end`. 0 on failure.
size_t read_entries(int pagemap, uint64_t begin, uint64_t end, uint64_t* entries) noexcept {
  const size_t wanted = std::min<uint64_t>(kEntries, (end - begin) / kPage);
  const ssize_t got = ::syscall(SYS_pread64, pagemap, entries, wanted * sizeof(uint64_t),
                                static_cast<off_t>(begin / kPage * sizeof(uint64_t)));
  return got > 0 ? static_cast<size_t>(got) / sizeof(uint64_t) : 0;
}

bool touched(uint64_t entry) noexcept { return (entry & (kPagePresent | kPageSwapped)) != 0; }

/// True when the page is known to be zero. Only pages that something else maps too are looked at:
/// the zero page is among them. The kernel does the read, which cannot be held up as ours could.
bool is_zero_page(uint64_t address, uint64_t entry) noexcept {
  if ((entry & kPageSwapped) != 0 || (entry & kPageExclusive) != 0) return false;
  uint64_t words[kPage / sizeof(uint64_t)];
  struct iovec local = {words, kPage};
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  struct iovec remote = {reinterpret_cast<void*>(address), kPage};
  if (::syscall(SYS_process_vm_readv, ::getpid(), &local, 1, &remote, 1, 0) !=
      static_cast<ssize_t>(kPage)) {
    return false;
  }
  for (const uint64_t word : words) {
    if (word != 0) return false;
  }
  return true;
}

/// Where a chunk from `begin` on ends; a look ahead of the hold, so only a guess at its work.
uint64_t end_of_adopt_chunk(int pagemap, uint64_t begin, uint64_t end) noexcept {
  uint64_t entries[kEntries];
  end = std::min(end, begin + kChunkSpanBytes);
  uint64_t bytes = 0;
  for (uint64_t at = begin; at < end;) {
    const size_t count = read_entries(pagemap, at, end, entries);
    if (count == 0) return end;
    for (size_t i = 0; i < count; ++i, at += kPage) {
      bytes += touched(entries[i]) ? kPage : 0;
      if (bytes >= kChunkTouchedBytes) return at + kPage;
    }
  }
  return end;
}

/// The same for the way back.
uint64_t end_of_restore_chunk(DataCursor& cursor, uint64_t begin, uint64_t end) noexcept {
  end = std::min(end, begin + kChunkSpanBytes);
  uint64_t bytes = 0;
  for (uint64_t at = begin; at < end;) {
    const auto [from, to] = cursor.next(at, end);
    if (to - from >= kChunkTouchedBytes - bytes) return from + (kChunkTouchedBytes - bytes);
    bytes += to - from;
    at = to;
  }
  return end;
}

}  // namespace

DataCursor::Run DataCursor::next(uint64_t at, uint64_t end) noexcept {
  if (at < known_.begin || at >= known_.end) {
    const off_t from = ::syscall(SYS_lseek, fd_, static_cast<off_t>(at), SEEK_DATA);
    if (from < 0 || static_cast<uint64_t>(from) >= end) return {end, end};
    const off_t hole = ::syscall(SYS_lseek, fd_, from, SEEK_HOLE);
    known_ = {static_cast<uint64_t>(from), hole > from ? static_cast<uint64_t>(hole) : end};
  }
  return {std::max(at, known_.begin), std::min(end, known_.end)};
}

std::unique_ptr<PageMover> PageMover::create() {
  if (static_cast<uint64_t>(::getpagesize()) != kPage || file_size_limited()) return nullptr;
  if (!open_userfault().valid()) return nullptr;
  base::UniqueFd fd(::memfd_create("flexins-adopted", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  struct stat status = {};
  if (!fd.valid() || ::ftruncate(fd.get(), kAddressSpaceBytes) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 ||
      ::fstat(fd.get(), &status) != 0) {
    return nullptr;
  }
  return std::unique_ptr<PageMover>(new PageMover(std::move(fd), status.st_dev, status.st_ino));
}

uint64_t PageMover::adopt(uint64_t begin, uint64_t end) noexcept {
  const base::UniqueFd userfault = open_userfault();
  const base::UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!userfault.valid() || !pagemap.valid() || file_size_limited()) return begin;
  // An earlier tenant of these addresses may have left pages; untouched pages must read as zero.
  punch(begin, end);
  uint64_t at = begin;
  while (at < end) {
    const uint64_t chunk_end = end_of_adopt_chunk(pagemap.get(), at, end);
    if (!adopt_chunk(userfault.get(), pagemap.get(), at, chunk_end)) break;
    populate(at, chunk_end);
    at = chunk_end;
  }
  return at;
}

bool PageMover::adopt_chunk(int userfault, int pagemap, uint64_t begin, uint64_t end) noexcept {
  // Missing pages are held too: a first store to an untouched page would be lost otherwise.
  HeldRange hold(userfault, begin, end, UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MISSING);
  if (!hold.held()) return false;
  if (!copy_touched(pagemap, begin, end) || !map_shared(begin, end)) {
    punch(begin, end);
    return false;
  }
  hold.set_replaced();
  return true;
}

bool PageMover::copy_touched(int pagemap, uint64_t begin, uint64_t end) noexcept {
  uint64_t entries[kEntries];
  uint64_t run = begin;
  for (uint64_t at = begin; at < end;) {
    const size_t count = read_entries(pagemap, at, end, entries);
    if (count == 0) return false;
    for (size_t i = 0; i < count; ++i, at += kPage) {
      if (touched(entries[i]) && !is_zero_page(at, entries[i])) continue;
      if (!copy_run(run, at)) return false;
      run = at + kPage;
    }
  }
  return copy_run(run, end);
}

bool PageMover::copy_run(uint64_t begin, uint64_t end) noexcept {
  while (begin < end) {
    // The kernel copies, not we: a page that another thread has just given back (MADV_DONTNEED) is
    // an error for it but would hold us for ever. Given back means zero, which a hole is.
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    const auto* from = reinterpret_cast<const void*>(begin);
    const ssize_t done =
        ::syscall(SYS_pwrite64, memfd_.get(), from, end - begin, static_cast<off_t>(begin));
    if (done > 0) {
      begin += static_cast<uint64_t>(done);
    } else if (done < 0 && errno == EFAULT) {
      begin = (begin / kPage + 1) * kPage;
    } else {
      return false;
    }
  }
  return true;
}

bool PageMover::map_shared(uint64_t begin, uint64_t end) noexcept {
  // Replacing a mapping by another is one step to all other threads.
  return raw_mmap(begin, end - begin, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, memfd_.get(),
                  begin) != MAP_FAILED;
}

void PageMover::populate(uint64_t begin, uint64_t end) noexcept {
  ::syscall(SYS_madvise, begin, end - begin, MADV_HUGEPAGE);
  DataCursor cursor(memfd_.get());
  for (uint64_t at = begin; at < end;) {
    const auto [from, to] = cursor.next(at, end);
    if (from < to) ::syscall(SYS_madvise, from, to - from, MADV_POPULATE_WRITE);
    at = to;
  }
}

uint64_t PageMover::restore(uint64_t begin, uint64_t end) noexcept {
  const base::UniqueFd userfault = open_userfault();
  if (!userfault.valid()) return begin;
  const uint64_t at = replace_all(userfault.get(), begin, end);
  punch(begin, at);
  return at;
}

void PageMover::copy_in_child(uint64_t begin, uint64_t end) noexcept {
  const uint64_t copied = replace_all(-1, begin, end);
  if (copied == end) return;
  // No memory: at least what the child stores stays its own.
  raw_mmap(copied, end - copied, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, memfd_.get(), copied);
}

/// `userfault` -1: nobody else runs.
uint64_t PageMover::replace_all(int userfault, uint64_t begin, uint64_t end) noexcept {
  // One private mapping that the chunks leave piece by piece: so they merge where they arrive.
  void* const copy = raw_mmap(0, end - begin, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (copy == MAP_FAILED) return begin;
  const auto copy_address = reinterpret_cast<uint64_t>(copy);
  DataCursor cursor(memfd_.get());
  uint64_t at = begin;
  while (at < end) {
    const uint64_t chunk_end = end_of_restore_chunk(cursor, at, end);
    if (!restore_chunk(userfault, cursor, copy_address + (at - begin), at, chunk_end)) break;
    at = chunk_end;
  }
  if (at < end) ::syscall(SYS_munmap, copy_address + (at - begin), end - at);
  return at;
}

bool PageMover::restore_chunk(int userfault, DataCursor& cursor, uint64_t copy, uint64_t begin,
                              uint64_t end) noexcept {
  if (userfault < 0) return fill(cursor, copy, begin, end) && replace(copy, begin, end);
  HeldRange hold(userfault, begin, end, UFFDIO_REGISTER_MODE_WP);
  if (!hold.held() || !fill(cursor, copy, begin, end)) return false;
  if (!replace(copy, begin, end)) return false;
  hold.set_replaced();
  return true;
}

bool PageMover::fill(DataCursor& cursor, uint64_t copy, uint64_t begin, uint64_t end) noexcept {
  for (uint64_t at = begin; at < end;) {
    const auto [from, to] = cursor.next(at, end);
    for (at = from; at < to;) {
      // NOLINTNEXTLINE(performance-no-int-to-ptr)
      auto* target = reinterpret_cast<void*>(copy + (at - begin));
      const ssize_t done =
          ::syscall(SYS_pread64, memfd_.get(), target, to - at, static_cast<off_t>(at));
      if (done <= 0) return false;
      at += static_cast<uint64_t>(done);
    }
  }
  return true;
}

bool PageMover::replace(uint64_t copy, uint64_t begin, uint64_t end) noexcept {
  const uint64_t length = end - begin;
  if (::syscall(SYS_mremap, copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, begin) ==
      static_cast<long>(begin)) {
    return true;
  }
  // A failed mremap may have unmapped its target; the content is still in the memfd.
  map_shared(begin, end);
  return false;
}

void PageMover::punch(uint64_t begin, uint64_t end) noexcept {
  (void)::fallocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(begin), static_cast<off_t>(end - begin));
}

}  // namespace flexins::window
