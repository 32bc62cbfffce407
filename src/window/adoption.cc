#include "window/adoption.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "window/adoption_rules.h"

namespace flexins::window {
namespace {

constexpr uint64_t kPage = 4096;
/// A child copies some GB/s; one that is stuck must not keep its parent for ever.
constexpr int kForkWaitMs = 60'000;

void advise(uint64_t begin, uint64_t end, int advice) {
  ::syscall(SYS_madvise, begin, end - begin, advice);
}

}  // namespace

bool Adoption::is_ours(const Mapping& mapping) const {
  return mover_ != nullptr && mapping.shared && mapping.inode == mover_->inode() &&
         mapping.device == mover_->device() && mapping.offset == mapping.begin;
}

bool Adoption::displaced(std::span<const Mapping> mappings, uint64_t begin, uint64_t end) const {
  return std::any_of(mappings.begin(), mappings.end(), [&](const Mapping& mapping) {
    return mapping.inode == mover_->inode() && mapping.device == mover_->device() &&
           mapping.offset != mapping.begin && mapping.offset < end &&
           begin < mapping.offset + (mapping.end - mapping.begin);
  });
}

std::vector<Adoption::Candidate> Adoption::candidates(std::span<const Mapping> mappings,
                                                      uint64_t begin, uint64_t end) const {
  std::vector<Candidate> found;
  const AdoptionRules rules(mappings, begin, end);
  for (const Mapping& mapping : mappings_within(mappings, begin, end)) {
    const uint64_t from = std::max(begin, mapping.begin);
    const uint64_t to = std::min(end, mapping.end);
    // A program that moved adopted pages elsewhere uses their place in the memfd still.
    if (displaced(mappings, from, to)) continue;
    for (const auto& part : rules.allowed(mapping, from, to)) {
      found.push_back({part.begin, part.end, rules.left_out_of_fork(mapping)});
    }
  }
  return found;
}

std::vector<RunTable::Share> Adoption::acquire(std::span<const Mapping> mappings, uint64_t begin,
                                               uint64_t end) {
  std::vector<RunTable::Share> shares;
  if (mover_ == nullptr && !mover_impossible_) {
    mover_ = PageMover::create();
    mover_impossible_ = mover_ == nullptr;
  }
  if (mover_ == nullptr) return shares;
  // Partial pages at the ends are left alone, unless another registration has them adopted.
  const uint64_t first_whole = (begin + kPage - 1) / kPage * kPage;
  const uint64_t last_whole = end / kPage * kPage;
  if (first_whole < last_whole) {
    for (const Candidate& range : candidates(mappings, first_whole, last_whole)) {
      const uint64_t moved = mover_->adopt(range.begin, range.end);
      if (moved == range.begin) continue;
      table_.renew(range.begin, moved, range.left_out_of_fork);
      if (range.left_out_of_fork) advise(range.begin, moved, MADV_DONTFORK);
      table_.acquire(range.begin, moved, shares);
    }
  }
  for (const Mapping& mapping : mappings_within(mappings, begin, end)) {
    if (!is_ours(mapping)) continue;
    table_.acquire(std::max(begin / kPage * kPage, mapping.begin),
                   std::min((end + kPage - 1) / kPage * kPage, mapping.end), shares);
  }
  std::sort(shares.begin(), shares.end(),
            [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return shares;
}

void Adoption::release(std::span<const RunTable::Share> shares) {
  std::vector<RunTable::Share> unused;
  for (const RunTable::Share& share : shares) {
    // Neighbours that end together are undone together.
    const size_t known = unused.size();
    table_.release(share, unused);
    for (size_t i = std::max<size_t>(known, 1); i < unused.size();) {
      if (unused[i - 1].end == unused[i].begin) {
        unused[i - 1].end = unused[i].end;
        unused.erase(unused.begin() + static_cast<ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
  }
  if (unused.empty()) return;
  const std::vector<Mapping> mappings = read_mappings();
  for (const RunTable::Share& run : unused) undo(mappings, run);
}

void Adoption::undo(std::span<const Mapping> mappings, const RunTable::Share& run) {
  const auto& runs = table_.runs();
  const auto first = runs.find(run.begin);
  const bool left_out = first != runs.end() && first->second.left_out_of_fork;
  uint64_t at = run.begin;
  for (const Mapping& mapping : mappings_within(mappings, run.begin, run.end)) {
    if (!is_ours(mapping)) continue;
    const uint64_t from = std::max(run.begin, mapping.begin);
    const uint64_t to = std::min(run.end, mapping.end);
    // What the program has unmapped in between is not ours to fill.
    if (from > at && !displaced(mappings, at, from)) mover_->punch(at, from);
    at = to;
    if (!mapping.readable || !mapping.writable) {
      table_.forget(from, to);  // the program changed the protection; as it is, it works
      table_.renew(from, to, left_out);
      continue;
    }
    const uint64_t restored = mover_->restore(from, to);
    table_.forget(from, restored);
    if (left_out && restored > from) advise(from, restored, MADV_DONTFORK);
  }
  if (at < run.end && !displaced(mappings, at, run.end)) mover_->punch(at, run.end);
  if (at < run.end) table_.forget(at, run.end);
}

void Adoption::note_unmapped(uint64_t begin, uint64_t end) {
  if (mover_ == nullptr || !table_.touches(begin, end)) return;
  const std::vector<Mapping> mappings = read_mappings();
  uint64_t at = begin;
  const auto drop = [&](uint64_t to) {
    if (at >= to) return;
    table_.forget(at, to);
    if (!displaced(mappings, at, to)) mover_->punch(at, to);
  };
  for (const Mapping& mapping : mappings_within(mappings, begin, end)) {
    if (!is_ours(mapping)) continue;  // still, or again, adopted
    drop(std::max(begin, mapping.begin));
    at = std::min(end, mapping.end);
  }
  drop(end);
}

void Adoption::note_dontneed(uint64_t begin, uint64_t end) {
  if (mover_ == nullptr || !table_.touches(begin, end)) return;
  for (const auto& [run_begin, run] : table_.runs()) {
    const uint64_t from = std::max(begin, run_begin);
    const uint64_t to = std::min(end, run.end);
    if (from < to) mover_->punch(from, to);
  }
}

void Adoption::leave_out_of_fork(bool out) {
  for (const auto& [begin, run] : table_.runs()) {
    if (!run.left_out_of_fork) advise(begin, run.end, out ? MADV_DONTFORK : MADV_DOFORK);
  }
}

void Adoption::before_fork() {
  fork_runs_.clear();
  if (empty()) return;
  // Looked up here, because the child must not allocate before its pages are its own.
  for (const Mapping& mapping : read_mappings()) {
    if (!is_ours(mapping) || !mapping.readable || !mapping.writable) continue;
    for (const auto& [begin, run] : table_.runs()) {
      const uint64_t from = std::max(begin, mapping.begin);
      const uint64_t to = std::min(run.end, mapping.end);
      if (from >= to || run.left_out_of_fork) continue;
      if (!fork_runs_.empty() && fork_runs_.back().end == from) {
        fork_runs_.back().end = to;
      } else {
        fork_runs_.push_back({from, to, false});
      }
    }
  }
  int ends[2];
  if (fork_runs_.empty() || ::pipe2(ends, O_CLOEXEC) != 0) return;
  fork_pipe_[0].reset(ends[0]);
  fork_pipe_[1].reset(ends[1]);
}

void Adoption::after_fork_in_parent() {
  // The child has the same pages until it has copied them: what we stored now it would see.
  fork_pipe_[1].reset();
  if (fork_pipe_[0].valid()) {
    struct pollfd ended = {fork_pipe_[0].get(), POLLIN, 0};
    while (::poll(&ended, 1, kForkWaitMs) < 0 && errno == EINTR) {
    }
  }
  fork_pipe_[0].reset();
}

void Adoption::after_fork_in_child() {
  for (const Candidate& range : fork_runs_) mover_->copy_in_child(range.begin, range.end);
  fork_pipe_[0].reset();
  fork_pipe_[1].reset();
  fork_runs_.clear();
  table_.clear();
  mover_.reset();
}

}  // namespace flexins::window
