#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/packet.h"

/// One direction of a channel between two engines of one machine: a ring of records in sealed
/// shared memory, with one sender and one receiver. An ABI: kShmRingVersion counts its changes.
///
/// Positions are bytes since the beginning; they only grow. The sender owns `written`, the receiver
/// `read` and `need_wakeup`. Neither believes what the other has written: positions are checked
/// against the ring's size, and a record's head and transport header are copied before they are
/// checked. Only payload is read where it lies, once.

namespace flexins::port {

inline constexpr uint32_t kShmRingVersion = 1;
/// Twice the bytes in flight that a peer's window allows, and still within a second-level cache.
inline constexpr size_t kShmDataBytes = size_t{1} << 20;
inline constexpr size_t kShmLineBytes = 64;

struct ShmRingLayout {
  alignas(kShmLineBytes) std::atomic<uint64_t> written;
  alignas(kShmLineBytes) std::atomic<uint64_t> read;
  /// 1 while the receiver sleeps: whoever publishes then writes to its eventfd.
  alignas(kShmLineBytes) std::atomic<uint32_t> need_wakeup;
  alignas(4096) std::byte data[kShmDataBytes];
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

/// In front of each packet, on a line of its own beginning. Padding up to the ring's end is a
/// record of no packet.
struct ShmRecord {
  uint32_t payload_length;
  uint16_t header_length;  ///< 0: nothing but padding up to the ring's end
  uint16_t source_port;
  uint8_t traffic_class;
  uint8_t hop_limit;
  uint8_t reserved[6];
};
static_assert(sizeof(ShmRecord) == 16);

/// The sending end. `ring` outlives it; zeroed when the first of both ends is made.
class ShmSender {
 public:
  explicit ShmSender(ShmRingLayout& ring) : ring_(ring) {}

  enum class Written : uint8_t { kDone, kFull, kMemoryGone, kBroken };
  /// Copies one packet into the ring, not visible before publish(). `packet.header_length` ≤ 64,
  /// `payload_length` ≤ 4096.
  [[nodiscard]] Written write(const wire::TxPacket& packet) noexcept;
  /// Shows what was written since. True: the receiver sleeps and is to be woken.
  [[nodiscard]] bool publish() noexcept;
  /// The receiver says that it has read what was never written.
  [[nodiscard]] bool broken() const { return broken_; }

 private:
  [[nodiscard]] bool has_room(size_t bytes) noexcept;

  ShmRingLayout& ring_;
  uint64_t written_ = 0;
  uint64_t published_ = 0;
  uint64_t read_ = 0;  ///< as last seen
  bool broken_ = false;
};

/// The receiving end.
class ShmReceiver {
 public:
  static constexpr size_t kBurst = 64;

  explicit ShmReceiver(ShmRingLayout& ring) : ring_(ring) {}

  /// Gives back what the last call handed out, then fills `burst` as Port::receive does, but for
  /// the addresses; kBurst packets at most.
  [[nodiscard]] size_t receive(std::span<wire::RxPacket> burst) noexcept;
  /// The sender has written what no sender writes: nothing more is taken from it.
  [[nodiscard]] bool broken() const { return broken_; }
  [[nodiscard]] std::atomic<uint32_t>& need_wakeup() const { return ring_.need_wakeup; }

 private:
  bool take(uint64_t available, size_t slot, wire::RxPacket& out) noexcept;

  ShmRingLayout& ring_;
  uint64_t read_ = 0;
  uint64_t written_ = 0;  ///< as last seen
  bool broken_ = false;
  std::array<std::array<std::byte, wire::kMaxHeaderBytes>, kBurst> headers_;
  std::array<iovec, kBurst> payloads_;
};

}  // namespace flexins::port
