#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "port/limits.h"
#include "wire/icrc.h"
#include "wire/packet.h"

/// Turns packets into what sendmsg takes: one iovec list per train, in which segment after segment
/// stands as it will on the wire. Payload is referenced, except where copying is cheaper.

namespace flexins::port {

/// Most bytes of UDP payload in one datagram, before the kernel cuts it into segments (IPv4).
inline constexpr size_t kMaxDatagramBytes = 65507;
/// The kernel's UDP_MAX_SEGMENTS at its largest.
inline constexpr size_t kMaxSegments = 128;

/// One train under construction. Reused for ever; holds no memory of the packets' owner but by
/// reference.
class UdpGather {
 public:
  enum class Added : uint8_t {
    kYes,
    kFull,        ///< no room left in this train
    kMemoryGone,  ///< a piece of payload could not be read; nothing was added
  };

  /// Payloads of up to `copy_payload_bytes` are copied, larger ones referenced.
  UdpGather(bool with_icrc, uint32_t copy_payload_bytes);

  /// Begins a train. `joined`: segments follow each other in one datagram that the kernel cuts;
  /// else each will be sent alone and has iovecs of its own.
  void begin(bool joined, uint16_t source_port) noexcept;
  /// Adds `packet` as the next segment. Its IPv4 identification will be its index in a joined
  /// train, else 0.
  [[nodiscard]] Added add(const wire::TxPacket& packet) noexcept;
  /// Ends the train; afterwards iovecs and segments may be read.
  void finish() noexcept { close_run(); }

  [[nodiscard]] size_t segments() const { return segments_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  [[nodiscard]] std::span<iovec> iovecs() { return {iovecs_.get(), iovec_count_}; }
  /// The iovecs of one segment; only of a train that is not joined.
  [[nodiscard]] std::span<iovec> segment(size_t index) {
    const size_t begin = first_iovec_[index];
    return {iovecs_.get() + begin, first_iovec_[index + 1] - begin};
  }

  [[nodiscard]] uint64_t payload_bytes_copied() const { return copied_; }
  [[nodiscard]] uint64_t payload_bytes_read() const { return read_; }

 private:
  void append(const wire::TxPacket& packet) noexcept;
  void append_copied(const wire::TxPacket& packet) noexcept;
  void append_referenced(const wire::TxPacket& packet) noexcept;
  void append_trailer(const wire::TxPacket& packet) noexcept;
  void close_run() noexcept;

  static constexpr size_t kIovecs = 1024;  // IOV_MAX
  /// Headers, trailers and small payloads of a train, in wire order.
  std::unique_ptr<std::byte[]> linear_;
  std::unique_ptr<iovec[]> iovecs_;
  std::array<uint16_t, kMaxSegments + 1> first_iovec_;
  /// The run is the part of `linear_` that no iovec covers yet.
  size_t run_begin_ = 0;
  size_t linear_end_ = 0;
  size_t iovec_count_ = 0;
  size_t segments_ = 0;
  size_t bytes_ = 0;
  uint32_t running_icrc_ = 0;
  uint16_t source_port_ = 0;
  bool joined_ = false;
  bool with_icrc_;
  uint32_t copy_payload_bytes_;
  uint64_t copied_ = 0;
  uint64_t read_ = 0;
};

}  // namespace flexins::port
