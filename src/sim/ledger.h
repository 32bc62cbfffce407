#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"
#include "base/verbs_types.h"
#include "sim/arena.h"

/// What the oracle knows of work that was asked for: the truth that the engines are held to.

namespace flexins::sim {

/// A run of bytes as they have to arrive.
struct Content {
  const std::byte* bytes = nullptr;
  uint32_t length = 0;
};
/// A run of bytes where something arrives.
struct Landing {
  uint64_t address = 0;
  uint32_t length = 0;
};

/// A right to memory that its owner may take back while it is in use: a registration or a memory
/// window.
struct Lease {
  bool revoked = false;
};

/// A shared counter that atomics change; see oracle_atomics.cc.
struct Counter {
  struct Change {
    uint64_t original;
    uint64_t compare;
    base::TimeNs posted;
    base::TimeNs completed;
  };
  std::shared_ptr<Arena> arena;
  uint64_t address = 0;
  bool swaps = false;  ///< compare-and-swap only, else fetch-and-add of 1 only
  std::vector<Change> changes;
  uint64_t posted = 0;
  uint64_t unknown = 0;  ///< failed: may have been done or not
  uint64_t last_seen = 0;
};

/// What a work request may come to, as far as its poster knows.
enum class Outlook : uint8_t {
  kFine,
  kLocalError,   ///< must fail here
  kRemoteError,  ///< must be refused by the peer
};

/// A message that takes a receive of the peer's.
struct Message {
  uint64_t number = 0;
  bool is_write = false;
  bool has_immediate = false;
  bool invalidates = false;
  uint32_t immediate = 0;  ///< or the key that it invalidates
  uint32_t length = 0;
  std::vector<Content> content;
  std::vector<Landing> written;       ///< a WRITE: where
  std::shared_ptr<Lease> target;      ///< a WRITE: what grants it; null: for ever
  std::shared_ptr<Arena> written_to;  ///< null: seen to be right
};

inline constexpr uint64_t kNoMessage = UINT64_MAX;

struct SendRecord {
  uint64_t wr_id = 0;
  base::WrOpcode opcode = base::WrOpcode::kSend;
  bool signalled = false;
  Outlook outlook = Outlook::kFine;
  uint32_t length = 0;
  uint32_t immediate = 0;
  uint32_t invalidate_key = 0;
  std::vector<Content> content;
  /// READ, atomics: where the answer arrives here; WRITE: where it arrives there.
  std::vector<Landing> landings;
  std::shared_ptr<Arena> landing_arena;
  bool owns_landings = true;
  std::shared_ptr<Lease> source;  ///< null: for ever
  std::shared_ptr<Lease> target;
  Counter* counter = nullptr;
  uint64_t compare = 0;  ///< compare-and-swap
  uint64_t swap = 0;
  // Filled by the oracle.
  uint64_t message = kNoMessage;
  uint64_t disturbances = 0;
  base::TimeNs posted = 0;

  [[nodiscard]] bool is_write() const {
    return opcode == base::WrOpcode::kRdmaWrite ||
           opcode == base::WrOpcode::kRdmaWriteWithImmediate;
  }
  [[nodiscard]] bool is_send() const {
    return opcode == base::WrOpcode::kSend || opcode == base::WrOpcode::kSendWithImmediate ||
           opcode == base::WrOpcode::kSendWithInvalidate;
  }
  [[nodiscard]] bool takes_receive() const {
    return is_send() || opcode == base::WrOpcode::kRdmaWriteWithImmediate;
  }
  [[nodiscard]] bool has_immediate() const {
    return opcode == base::WrOpcode::kSendWithImmediate ||
           opcode == base::WrOpcode::kRdmaWriteWithImmediate;
  }
  [[nodiscard]] bool is_atomic() const {
    return opcode == base::WrOpcode::kCompareSwap || opcode == base::WrOpcode::kFetchAdd;
  }
};

struct ReceiveRecord {
  uint64_t wr_id = 0;
  std::vector<Landing> landings;
  uint32_t capacity = 0;
};

/// Receives that several QPs share: taken in any order.
struct SrqLedger {
  std::map<uint64_t, ReceiveRecord> posted;
  std::shared_ptr<Arena> arena;
};

/// A WRITE whose packets may still be under way when it is over for its poster.
struct Pending {
  std::vector<Content> content;
  std::vector<Landing> landings;
  std::shared_ptr<Arena> arena;
};

struct QpLedger {
  uint32_t number = 0;
  uint32_t host = 0;
  uint32_t qpn = 0;
  uint64_t cookie = 0;  ///< by which events name it
  base::QpType type = base::QpType::kReliable;
  bool signal_all = false;
  uint8_t retry_count = 7;
  uint8_t rnr_retry = 7;
  QpLedger* peer = nullptr;
  std::shared_ptr<Arena> arena;
  SrqLedger* srq = nullptr;

  std::deque<SendRecord> sends;
  uint64_t sends_retired = 0;
  std::deque<ReceiveRecord> receives;
  uint64_t receives_posted = 0;
  uint64_t receives_completed = 0;
  std::deque<Message> messages;  ///< on their way to the peer's receives
  uint64_t messages_posted = 0;
  uint64_t messages_delivered = 0;  ///< to the peer; unreliable: the last of them, plus one
  std::vector<Pending> pending;

  bool sends_failed = false;  ///< a send has ended with an error: each behind it is flushed
  bool failed = false;        ///< nothing but flushes from now on
  bool may_fail = false;      ///< was told to, or said by an event that it does
  bool silent = false;        ///< its application, engine or CQ is gone: judged no more
  bool destroyed = false;

  /// What happened to it lately.
  struct Entry {
    base::TimeNs time = 0;
    const char* what = "";
    uint64_t a = 0;
    uint64_t b = 0;
  };
  std::array<Entry, 24> history;
  uint64_t history_count = 0;
  void note(base::TimeNs time, const char* what, uint64_t a = 0, uint64_t b = 0) {
    history[history_count++ % history.size()] = {time, what, a, b};
  }
  [[nodiscard]] std::string describe() const;
};

}  // namespace flexins::sim
