#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "window/maps.h"
#include "window/page_mover.h"
#include "window/run_table.h"

namespace flexins::window {

/// Which pages of this process are adopted, by how many registrations, and what may be. The owner
/// serialises all calls.
class Adoption {
 public:
  /// Adopts what it can of the whole pages in [begin, end) and takes a share in all that is adopted
  /// there, also by earlier registrations. `mappings` is the state before the call.
  std::vector<RunTable::Share> acquire(std::span<const Mapping> mappings, uint64_t begin,
                                       uint64_t end);
  /// Gives shares back; pages that nobody has a share in become private memory again.
  void release(std::span<const RunTable::Share> shares);

  /// Of the memfd; -1 before anything was adopted.
  [[nodiscard]] int fd() const { return mover_ == nullptr ? -1 : mover_->fd(); }
  /// True for a mapping of adopted pages at their own address.
  [[nodiscard]] bool is_ours(const Mapping& mapping) const;
  [[nodiscard]] bool empty() const { return table_.runs().empty(); }

  /// [begin, end) was unmapped or mapped anew by the program.
  void note_unmapped(uint64_t begin, uint64_t end);
  /// The program expects [begin, end) to read as zero (madvise MADV_DONTNEED).
  void note_dontneed(uint64_t begin, uint64_t end);
  /// Keeps all adopted pages out of a child that is about to be made, or lets them be again.
  void leave_out_of_fork(bool out);

  /// Around fork. In the child the adopted pages become private copies, and nothing is adopted.
  void before_fork();
  void after_fork_in_parent();
  void after_fork_in_child();

 private:
  struct Candidate {
    uint64_t begin = 0;
    uint64_t end = 0;
    bool left_out_of_fork = false;
  };

  std::vector<Candidate> candidates(std::span<const Mapping> mappings, uint64_t begin,
                                    uint64_t end) const;
  [[nodiscard]] bool displaced(std::span<const Mapping> mappings, uint64_t begin,
                               uint64_t end) const;
  void undo(std::span<const Mapping> mappings, const RunTable::Share& run);

  std::unique_ptr<PageMover> mover_;
  bool mover_impossible_ = false;
  RunTable table_;
  std::vector<Candidate> fork_runs_;
  base::UniqueFd fork_pipe_[2];
};

}  // namespace flexins::window
