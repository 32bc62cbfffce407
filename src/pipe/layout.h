#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/verbs_types.h"

/// The shared memory between an application and its engine. This is an ABI between two processes
/// that may be of different builds: fixed sizes, asserted; a change raises kPipeVersion.
///
/// Every ring is written by one side only and carries in each entry a sequence number (the entry's
/// position plus one, modulo 2^32: a phase bit with a memory), stored last with release order. So
/// either side learns of new entries by looking at memory; no doorbell, no system call. The engine
/// treats everything that it reads here as hostile: copy once, then check.

namespace flexins::pipe {

inline constexpr uint32_t kPipeVersion = 3;
inline constexpr size_t kSlotBytes = 64;
/// Header slot, then up to 32 SGEs (8 slots) or 512 inline bytes (8 slots).
inline constexpr uint32_t kMaxSubmissionSlots = 10;
/// Slots of a submission ring; a power of two.
inline constexpr uint32_t kSubmissionRingSlots = 4096;
/// Submission rings of one context: number 0 is shared by all QPs that have none of their own.
inline constexpr uint32_t kMaxSubmissionRings = 16;

enum class SubmissionKind : uint8_t {
  kSend = 0,         ///< a send work request
  kReceiveKick = 1,  ///< look at the QP's receive ring (it asked: ReceiveRingHeader::need_kick)
};

/// The first slot of a submission entry. Further slots hold the SGEs after the first, or the inline
/// bytes after the first 16.
struct alignas(64) SubmissionSlot {
  uint32_t qpn;
  uint8_t kind;       ///< SubmissionKind
  uint8_t opcode;     ///< base::WrOpcode
  uint8_t flags;      ///< base::SendFlags
  uint8_t sge_count;  ///< 0…32; 0 with kSendInline
  uint64_t wr_id;
  uint64_t remote_address;  ///< datagrams: DatagramAddress
  uint32_t remote_key;      ///< datagrams: Q_Key
  uint32_t immediate;       ///< network order, or the key to invalidate
  uint16_t inline_length;
  uint8_t slot_count;  ///< 1…kMaxSubmissionSlots, this one included
  uint8_t reserved0[5];
  union {
    base::Sge first_sge = {};
    uint8_t inline_head[16];
  };
  uint32_t remote_srqn;            ///< XRC: the SRQ of the peer
  std::atomic<uint32_t> sequence;  ///< position of this slot + 1, stored last

  // The union has no default constructor of its own; slots are always written before they are read.
  SubmissionSlot() {}  // NOLINT(modernize-use-equals-default)
};
static_assert(sizeof(SubmissionSlot) == kSlotBytes);
static_assert(offsetof(SubmissionSlot, wr_id) == 8);
static_assert(offsetof(SubmissionSlot, first_sge) == 40);
static_assert(offsetof(SubmissionSlot, sequence) == 60);

/// Atomics need SGE, compare/add and swap: the latter two open the second slot.
struct AtomicOperands {
  uint64_t compare_add;
  uint64_t swap;
};

/// The second slot of a bind. Its first has the address as remote_address, the key that the window
/// gets as remote_key, and the key that it has as immediate.
struct BindOperands {
  uint64_t length;
  uint32_t region_key;
  uint32_t access;  ///< base::AccessFlags
};

/// Where a datagram goes; takes the place of SubmissionSlot::remote_address.
struct DatagramAddress {
  uint32_t address_handle;
  uint32_t qpn;
};
[[nodiscard]] constexpr uint64_t pack_datagram_address(DatagramAddress to) {
  return uint64_t{to.qpn} << 32 | to.address_handle;
}
[[nodiscard]] constexpr DatagramAddress unpack_datagram_address(uint64_t packed) {
  return {static_cast<uint32_t>(packed), static_cast<uint32_t>(packed >> 32)};
}

/// Start of the memory of a submission ring; kSubmissionRingSlots slots follow at kRingHeaderBytes.
/// A variable-length entry may be followed by stale bytes that look like a sequence number, so the
/// producer clears the sequence of the slot behind an entry before it publishes the entry; hence
/// one slot always stays free.
struct SubmissionRingHeader {
  alignas(64) std::atomic<uint32_t> consumed;  ///< engine: slots consumed, modulo 2^32
};

/// Entry of a receive ring: the header is followed by `sge` room for max_sge elements; an entry's
/// size is receive_entry_bytes(max_sge).
struct ReceiveEntry {
  uint64_t wr_id;
  uint32_t sge_count;
  uint32_t reserved;
  // base::Sge sge[max_sge] follows
};
static_assert(sizeof(ReceiveEntry) == 16);

/// Start of the memory of a receive ring; entries follow at kRingHeaderBytes.
struct ReceiveRingHeader {
  alignas(64) std::atomic<uint32_t> produced;   ///< application: entries posted, modulo 2^32
  alignas(64) std::atomic<uint32_t> need_kick;  ///< engine: 1 = send kReceiveKick after posting
  /// Engine, SRQ only: entries taken, modulo 2^32. They are copied when they are taken, so their
  /// places are free again, in whatever order and on whichever QP they will complete.
  alignas(64) std::atomic<uint32_t> consumed;
};

/// Completion queue entry.
struct alignas(64) CompletionEntry {
  uint64_t wr_id;
  uint64_t timestamp_ns;  ///< CLOCK_MONOTONIC when the engine completed it
  uint32_t qpn;
  uint32_t source_qpn;
  uint32_t byte_length;
  uint32_t immediate;  ///< network order, or the invalidated key
  uint32_t wc_flags;
  uint32_t vendor_error;
  uint32_t retired;  ///< transport::Completion::retired
  uint8_t status;    ///< base::WcStatus
  uint8_t opcode;    ///< base::WcOpcode
  uint8_t is_send;
  uint8_t service_level;  ///< received datagrams: base::PacketKind
  uint32_t reserved1[2];
  uint32_t generation;             ///< of the QP's send/receive queues, counts resets
  std::atomic<uint32_t> sequence;  ///< position + 1, stored last
};
static_assert(sizeof(CompletionEntry) == kSlotBytes);
static_assert(offsetof(CompletionEntry, sequence) == 60);

/// CompletionEntry::generation of receives from an XRC SRQ: `qpn` is the target that received,
/// which may be another process's, and no queue of a QP counts them.
inline constexpr uint32_t kNoGeneration = 0;

enum ArmState : uint32_t { kDisarmed = 0, kArmedAny = 1, kArmedSolicited = 2 };

/// Start of the memory of a completion ring; entries follow at kRingHeaderBytes.
struct CompletionRingHeader {
  alignas(64) std::atomic<uint32_t> consumed;  ///< application: entries polled, modulo 2^32
  /// Application stores the wish, engine exchanges it for kDisarmed when it sends the event.
  alignas(64) std::atomic<uint32_t> armed;
  alignas(64) std::atomic<uint32_t> overflowed;  ///< engine: 1 after an overrun; the CQ is dead
};

inline constexpr size_t kRingHeaderBytes = 192;
static_assert(sizeof(SubmissionRingHeader) <= kRingHeaderBytes);
static_assert(sizeof(ReceiveRingHeader) <= kRingHeaderBytes);
static_assert(sizeof(CompletionRingHeader) == kRingHeaderBytes);

/// One page per context: how the application wakes an engine that sleeps.
struct WakePage {
  /// Engine: 1 before it blocks. The application, after publishing and a full fence, reads it and,
  /// if set, writes 8 bytes (uint64_t 1) to the wake descriptor.
  alignas(64) std::atomic<uint32_t> need_wakeup;
};

[[nodiscard]] constexpr uint32_t round_up_power_of_two(uint32_t n) {
  uint32_t p = 1;
  while (p < n) p <<= 1;
  return p;
}
[[nodiscard]] constexpr size_t receive_entry_bytes(uint32_t max_sge) {
  return sizeof(ReceiveEntry) + sizeof(base::Sge) * (max_sge == 0 ? 1 : max_sge);
}
[[nodiscard]] constexpr size_t submission_ring_bytes() {
  return kRingHeaderBytes + kSlotBytes * kSubmissionRingSlots;
}
/// `depth`: a power of two.
[[nodiscard]] constexpr size_t receive_ring_bytes(uint32_t depth, uint32_t max_sge) {
  return kRingHeaderBytes + receive_entry_bytes(max_sge) * depth;
}
/// `depth`: a power of two.
[[nodiscard]] constexpr size_t completion_ring_bytes(uint32_t depth) {
  return kRingHeaderBytes + kSlotBytes * depth;
}

}  // namespace flexins::pipe
