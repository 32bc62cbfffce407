#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

/// What the two programs move in one round. Both compute it from the same seed, so that each knows
/// every byte that has to be in its memory afterwards without being told.
namespace integrity {

enum class Kind : uint8_t {
  kWrite,
  kWriteImmediate,
  kSend,
  kSendImmediate,
  kRead,
  kCompareSwap,
  kFetchAdd
};
inline constexpr size_t kKinds = 7;
/// What an unreliable connection has: the kinds before kRead.
inline constexpr size_t kUnreliableKinds = 4;
inline constexpr uint64_t kAtomicBytes = 8;
[[nodiscard]] std::string_view to_string(Kind kind);

/// A run of bytes in one of a program's memory areas.
struct Piece {
  uint32_t area = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct Operation {
  Kind kind = Kind::kWrite;
  uint64_t length = 0;
  uint64_t pattern = 0;      ///< seed of the bytes that are moved
  std::vector<Piece> local;  ///< in the memory of the program that posts it
  std::vector<Piece> peer;   ///< in the other's: the target, or the pieces of the receive
  uint64_t compare_add = 0;  ///< of an atomic
  uint64_t swap = 0;
  uint32_t immediate = 0;
  bool is_signalled = false;
  bool is_inline = false;
  bool is_fenced = false;
  bool is_solicited = false;

  [[nodiscard]] bool takes_receive() const {
    return kind == Kind::kWriteImmediate || kind == Kind::kSend || kind == Kind::kSendImmediate;
  }
  [[nodiscard]] bool is_atomic() const {
    return kind == Kind::kCompareSwap || kind == Kind::kFetchAdd;
  }
  /// It brings bytes of the other program, which has to store them before.
  [[nodiscard]] bool fetches() const { return kind == Kind::kRead || is_atomic(); }
  [[nodiscard]] bool has_immediate() const {
    return kind == Kind::kWriteImmediate || kind == Kind::kSendImmediate;
  }
};

struct Limits {
  uint64_t seed = 1;
  uint64_t size_max = 0;   ///< bytes of an ordinary operation
  uint64_t large_max = 0;  ///< bytes of a rare large one
  uint64_t area_bytes = 0;
  uint32_t areas = 0;
  uint32_t sge_max = 0;
  uint32_t inline_max = 0;
  bool unreliable = false;
};

/// The operations that each side posts, [0] the server's, [1] the client's. No two operations of a
/// round touch the same byte.
struct Plan {
  std::vector<Operation> posted[2];
  /// Side s posts its receives only after the other may have sent, so that RNR NAKs happen.
  bool posts_receives_late[2] = {};
};

[[nodiscard]] Plan make_plan(const Limits& limits, uint64_t round);

/// The word at the beginning of a pattern, which an atomic finds, and what it leaves.
[[nodiscard]] uint64_t first_word(uint64_t pattern);
[[nodiscard]] uint64_t result_of(const Operation& atomic);

/// The bytes of a pattern from `start` on.
void fill_pattern(uint64_t pattern, uint64_t start, std::byte* to, size_t length);

}  // namespace integrity
