#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/verbs_types.h"
#include "wire/opcode.h"

/// What the two programs did whose packets are in tests/vectors: a client that posts operations, a
/// server whose memory they reach. Both know every byte: byte i of operation k is byte_of(k, i).

namespace flexins::interop {

enum class Kind : uint8_t {
  kSend,
  kSendImmediate,
  kSendSolicited,
  kWrite,
  kWriteImmediate,
  kRead,
  kCompareSwap,
  kFetchAdd,
  kWriteBadKey,
  kReadBadKey,
  kWriteOutOfBounds,
  kWriteWindow,     ///< through the server's memory window, to its beginning
  kSendInvalidate,  ///< of that window
};

struct Operation {
  Kind kind = Kind::kSend;
  uint32_t whole_packets = 0;                        ///< its length: so many times the path MTU …
  uint32_t more_bytes = 0;                           ///< … and so many bytes
  base::WcStatus status = base::WcStatus::kSuccess;  ///< what its poster must be told

  [[nodiscard]] uint32_t length(uint32_t mtu_bytes) const {
    return whole_packets * mtu_bytes + more_bytes;
  }
};

/// What befell the `nth` packet (from 1) of `opcode` on its way.
struct Fault {
  enum class Kind : uint8_t { kDropped, kDuplicated, kDelayed, kFlipped };
  wire::Opcode opcode;
  uint32_t nth = 1;
  Kind kind = Kind::kDropped;
  uint32_t byte = 0;  ///< kFlipped: of the transport part
};

struct Scenario {
  std::string_view file;  ///< of tests/vectors, without ".pcap"
  std::vector<Operation> operations;
  std::vector<Fault> faults;
  base::QpType type = base::QpType::kReliable;
  uint32_t mtu_bytes = 1024;
  bool is_pipelined = false;   ///< the client posts all at once, not one by one
  bool receives_late = false;  ///< the server posts its receives after many RNR NAKs
  bool remote_access = true;   ///< the server's QP lets the peer read and write
  uint32_t receive_bytes = 0;  ///< length of the server's receives; 0: long enough
  bool bad_receive_key = false;
  bool has_window = false;  ///< the server binds a memory window to the first slot
  /// From this packet of the file on a client may recover in another way than Linux (0: nowhere);
  /// what is asked of it is to go back to `recovery_psn`.
  size_t recovery_packet = 0;
  uint32_t recovery_psn = 0;
  /// A server's answers behind this packet (0: none) are not compared: they are to requests that
  /// come for the third time, and which of its answers it repeats is its choice.
  size_t server_compared_to = 0;
  /// Of an unreliable service: the operation that never arrives.
  uint32_t lost_operation = UINT32_MAX;
};

[[nodiscard]] const std::vector<Scenario>& scenarios();

[[nodiscard]] constexpr uint8_t byte_of(uint32_t operation, uint32_t i) {
  return static_cast<uint8_t>(i * 7 + operation * 31 + (i >> 8));
}

// Where things lie in the server's memory, and likewise in the client's.
inline constexpr uint32_t kSlotBytes = 131'072;
inline constexpr uint32_t kSlots = 12;  ///< then as many for receives
inline constexpr uint64_t kMemoryBytes = uint64_t{kSlotBytes} * kSlots * 2;

inline constexpr uint64_t kAtomicValue = 0x1122'3344'5566'7700;  ///< + operation, before it
inline constexpr uint64_t kAddend = 0x0102'0304'0506'0708;
inline constexpr uint64_t kSwapValue = 0xa0a1'a2a3'a4a5'a6a7;
inline constexpr uint64_t kWrongGuess = 0x5555;      ///< what even operations compare with
inline constexpr uint32_t kImmediate = 0xabcd'0000;  ///< + operation
inline constexpr uint32_t kBadKey = 0xdead'beef;
inline constexpr uint32_t kServerPsn = 0x22'2200;
inline constexpr uint32_t kQkey = 0x1111'1111;
inline constexpr uint32_t kGrhBytes = 40;  ///< in front of a datagram in memory

[[nodiscard]] bool takes_receive(Kind kind);
/// Whether its first packet names memory of the server.
[[nodiscard]] bool names_memory(Kind kind);
[[nodiscard]] bool is_atomic(Kind kind);

}  // namespace flexins::interop
