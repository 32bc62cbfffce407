#include "integrity/plan.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace integrity {
namespace {

constexpr uint32_t kOperationsMax = 16;

uint64_t mix(uint64_t value) {  // a bijection that spreads every bit (splitmix64's)
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  uint64_t next() { return engine_(); }
  /// Uniform in [low, high].
  uint64_t between(uint64_t low, uint64_t high) { return low + engine_() % (high - low + 1); }
  bool one_in(uint64_t n) { return engine_() % n == 0; }

 private:
  std::mt19937_64 engine_;
};

/// Cuts pieces that do not overlap out of one side's areas.
class Carver {
 public:
  Carver(const Limits& limits) : limits_(limits), used_(limits.areas, 0) {}

  bool take(Dice& dice, uint64_t length, std::vector<Piece>& pieces, uint64_t alignment = 1) {
    const uint64_t first = dice.between(0, limits_.areas - 1);
    for (uint32_t i = 0; i < limits_.areas; ++i) {
      const auto area = static_cast<uint32_t>((first + i) % limits_.areas);
      // A gap that must stay untouched, and any alignment.
      const uint64_t gap = used_[area] + dice.between(1, 200);
      const uint64_t offset = (gap + alignment - 1) / alignment * alignment;
      if (offset + length > limits_.area_bytes) continue;
      used_[area] = offset + length;
      pieces.push_back({area, offset, length});
      return true;
    }
    return false;
  }

  /// `length` bytes in one to `count_max` pieces, none of them empty.
  bool take_scattered(Dice& dice, uint64_t length, uint64_t count_max, std::vector<Piece>& pieces) {
    uint64_t left = dice.one_in(2) ? 1 : dice.between(1, count_max);
    for (; length > 0; --left) {
      uint64_t part = length;
      if (left > 1) part = dice.one_in(3) ? 1 : dice.between(1, std::max<uint64_t>(length / 2, 1));
      if (!take(dice, part, pieces)) return false;
      length -= part;
    }
    return true;
  }

 private:
  const Limits& limits_;
  std::vector<uint64_t> used_;
};

/// Mostly small, often next to a packet boundary, sometimes large.
uint64_t pick_length(Dice& dice, const Limits& limits) {
  uint64_t length = 0;
  switch (dice.between(0, 9)) {
    case 0: length = 0; break;
    case 1:
    case 2: length = dice.between(1, 64); break;
    case 3:
    case 4: length = dice.between(1, 9000); break;
    case 5: length = 1024 * dice.between(1, 64) + dice.between(0, 2) - 1; break;
    case 6: length = 4096 * dice.between(1, 32) + dice.between(0, 2) - 1; break;
    default: length = dice.between(0, limits.size_max); break;
  }
  if (dice.one_in(100)) return dice.between(0, limits.large_max);
  return std::min(length, limits.size_max);
}

/// An atomic: eight bytes that the other side has stored are changed, and come here as they were.
bool pick_atomic(Dice& dice, Carver& mine, Carver& peers, Operation& operation) {
  operation.length = kAtomicBytes;
  operation.is_inline = false;
  operation.compare_add = operation.swap = dice.next();
  if (operation.kind == Kind::kCompareSwap && dice.one_in(2)) {
    operation.compare_add = first_word(operation.pattern);  // it will swap
  }
  return mine.take(dice, kAtomicBytes, operation.local) &&
         peers.take(dice, kAtomicBytes, operation.peer, kAtomicBytes);
}

/// False when the areas are full.
bool pick_operation(Dice& dice, const Limits& limits, Carver& mine, Carver& peers,
                    Operation& operation) {
  const size_t kinds = limits.unreliable ? kUnreliableKinds : kKinds;
  operation.kind = static_cast<Kind>(dice.between(0, kinds - 1));
  operation.length = pick_length(dice, limits);
  operation.pattern = dice.next();
  operation.immediate = static_cast<uint32_t>(dice.next());
  operation.is_signalled = dice.one_in(2);
  operation.is_fenced = dice.one_in(8);
  operation.is_solicited = dice.one_in(2);
  operation.is_inline =
      operation.kind != Kind::kRead && operation.length <= limits.inline_max && dice.one_in(2);
  if (operation.is_atomic()) return pick_atomic(dice, mine, peers, operation);
  if (!mine.take_scattered(dice, operation.length, limits.sge_max, operation.local)) return false;
  if (operation.kind == Kind::kSend || operation.kind == Kind::kSendImmediate) {
    // The receive may be longer than what comes: the rest of it must stay as it is.
    const uint64_t spare = dice.one_in(2) ? 0 : dice.between(0, 5000);
    return peers.take_scattered(dice, operation.length + spare, limits.sge_max, operation.peer);
  }
  return peers.take(dice, operation.length, operation.peer);
}

}  // namespace

std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::kWrite: return "WRITE";
    case Kind::kWriteImmediate: return "WRITE with immediate";
    case Kind::kRead: return "READ";
    case Kind::kSend: return "SEND";
    case Kind::kSendImmediate: return "SEND with immediate";
    case Kind::kCompareSwap: return "compare and swap";
    case Kind::kFetchAdd: return "fetch and add";
  }
  return "?";
}

Plan make_plan(const Limits& limits, uint64_t round) {
  Dice dice(mix(limits.seed) ^ mix(round));
  Plan plan;
  Carver carvers[2] = {Carver(limits), Carver(limits)};
  for (int side = 0; side < 2; ++side) {
    // Now and then only one side sends.
    const uint64_t count = dice.one_in(4) ? 0 : dice.between(1, kOperationsMax);
    for (uint64_t i = 0; i < count; ++i) {
      Operation operation;
      if (!pick_operation(dice, limits, carvers[side], carvers[1 - side], operation)) break;
      plan.posted[side].push_back(std::move(operation));
    }
    // Nothing else says that an unreliable WRITE has arrived than a message behind it.
    while (limits.unreliable && !plan.posted[side].empty() &&
           !plan.posted[side].back().takes_receive()) {
      plan.posted[side].pop_back();
    }
    // Its completion says that all before it are done too.
    if (!plan.posted[side].empty()) plan.posted[side].back().is_signalled = true;
    // Nobody tells an unreliable sender that it came too early.
    plan.posts_receives_late[side] = dice.one_in(16) && !limits.unreliable;
  }
  return plan;
}

uint64_t first_word(uint64_t pattern) {
  uint64_t word;
  fill_pattern(pattern, 0, reinterpret_cast<std::byte*>(&word), sizeof word);
  return word;
}

uint64_t result_of(const Operation& atomic) {
  const uint64_t found = first_word(atomic.pattern);
  if (atomic.kind == Kind::kFetchAdd) return found + atomic.compare_add;
  return found == atomic.compare_add ? atomic.swap : found;
}

void fill_pattern(uint64_t pattern, uint64_t start, std::byte* to, size_t length) {
  uint64_t position = start;
  while (length > 0) {
    const uint64_t word = mix(pattern + position / 8);
    if (position % 8 == 0 && length >= 8) {  // nearly always
      memcpy(to, &word, 8);
      to += 8;
      position += 8;
      length -= 8;
      continue;
    }
    const size_t skip = position % 8;
    const size_t count = std::min(length, 8 - skip);
    memcpy(to, reinterpret_cast<const std::byte*>(&word) + skip, count);
    to += count;
    position += count;
    length -= count;
  }
}

}  // namespace integrity
