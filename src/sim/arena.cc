#include "sim/arena.h"

#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace flexins::sim {

namespace {

constexpr uint64_t kPageBytes = 4096;

bool all_poison(const std::byte* bytes, uint64_t length) {
  if (length == 0) return true;
  return bytes[0] == Arena::kPoison && std::memcmp(bytes, bytes + 1, length - 1) == 0;
}

}  // namespace

void Arena::Free::operator()(std::byte* memory) const { std::free(memory); }

Arena::Arena(uint64_t base, uint64_t constant_bytes, uint64_t bytes, Random random)
    : base_(base),
      constant_bytes_(constant_bytes),
      bytes_(bytes),
      memory_(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, bytes))),
      random_(random) {
  FLEXINS_CHECK(memory_ != nullptr && bytes % kPageBytes == 0 && constant_bytes % 8 == 0);
  for (uint64_t i = 0; i < constant_bytes; i += 8) {
    const uint64_t word = random_.next();
    std::memcpy(memory_.get() + i, &word, sizeof word);
  }
  digest_ = digest();
  std::memset(memory_.get() + constant_bytes, static_cast<int>(kPoison), bytes - constant_bytes);
  free_.emplace(base + constant_bytes, bytes - constant_bytes);
}

std::optional<uint64_t> Arena::allocate(uint64_t length) {
  const uint64_t before = kGuardBytes + random_.below(kGuardBytes);
  const uint64_t total = before + length + kGuardBytes;
  for (auto at = free_.begin(); at != free_.end(); ++at) {
    if (at->second < total) continue;
    const auto [begin, available] = *at;
    free_.erase(at);
    if (available > total) free_.emplace(begin + total, available - total);
    stained_ = stained_ || !is_poison(begin, total);
    held_.emplace(begin + before, Piece{begin, total, length});
    return begin + before;
  }
  return std::nullopt;
}

bool Arena::free(uint64_t address) {
  const auto found = held_.find(address);
  FLEXINS_CHECK(found != held_.end());
  const Piece piece = found->second;
  held_.erase(found);
  const uint64_t end = address + piece.length;
  const bool guarded = is_poison(piece.begin, address - piece.begin) &&
                       is_poison(end, piece.begin + piece.total - end);
  poison(address, piece.length);
  auto next = free_.upper_bound(piece.begin);
  uint64_t begin = piece.begin;
  uint64_t total = piece.total;
  if (next != free_.end() && next->first == begin + total) {
    total += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == begin) {
      begin = previous->first;
      total += previous->second;
      free_.erase(previous);
    }
  }
  free_.emplace(begin, total);
  return guarded;
}

bool Arena::is_poison(uint64_t address, uint64_t length) const {
  return all_poison(at(address), length);
}

void Arena::poison(uint64_t address, uint64_t length) {
  std::memset(at(address), static_cast<int>(kPoison), length);
}

void Arena::bury() {
  buried_ = true;
  poison(base_ + constant_bytes_, bytes_ - constant_bytes_);
}

uint64_t Arena::digest() const {
  uint64_t hash = 0;
  for (uint64_t i = 0; i < constant_bytes_; i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, memory_.get() + i, sizeof word);
    hash = (hash ^ word) * 0x9e37'79b9'7f4a'7c15u;
  }
  return hash;
}

bool Arena::untouched() const {
  if (digest() != digest_) return false;
  if (buried_) return is_poison(base_ + constant_bytes_, bytes_ - constant_bytes_);
  for (const auto& [begin, length] : free_) {
    if (!is_poison(begin, length)) return false;
  }
  return true;
}

memory::Extent ArenaWindow::resolve(uint64_t address, uint64_t length) noexcept {
  if (observer_ != nullptr) return {nullptr, length};
  return {arena_->at(address), length};
}

memory::AccessResult ArenaWindow::read(uint64_t address, std::span<std::byte> out) noexcept {
  if (!arena_->holds(address, out.size())) return memory::AccessResult::kFailed;
  std::memcpy(out.data(), arena_->at(address), out.size());
  return memory::AccessResult::kDone;
}

memory::AccessResult ArenaWindow::write(uint64_t address, std::span<const std::byte> in) noexcept {
  if (!arena_->holds(address, in.size())) return memory::AccessResult::kFailed;
  if (observer_ != nullptr) observer_->on_placement();
  memory::copy_tail_last(arena_->at(address), in.data(), in.size());
  return memory::AccessResult::kDone;
}

}  // namespace flexins::sim
