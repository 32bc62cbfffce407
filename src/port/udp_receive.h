#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "port/port.h"

namespace flexins::port {

/// The receiving half of the UDP port: datagrams land in a small ring of buffers that is recycled
/// last in, first out, so that it stays in the core's cache however many QPs there are.
class UdpReceive {
 public:
  struct Listener {
    wire::IpAddress address;
    base::UniqueFd fd;
  };
  static constexpr size_t kBufferBytes = 65536;

  /// `buffers`: 1 … kMaxBuffers.
  UdpReceive(std::vector<Listener> listeners, uint32_t buffers, bool with_icrc);

  /// Control path: one more address to receive at (a group), and one less.
  base::Result<void> add(Listener listener);
  void remove(const wire::IpAddress& address);

  /// As Port::receive.
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept;
  void observe_drops(DropObserver* observer) { observer_ = observer; }
  /// One descriptor for all sockets, those to come included.
  [[nodiscard]] std::vector<int> poll_fds() const { return {epoll_.get()}; }
  /// SO_RCVBUF of the smallest socket, as the kernel accounts it.
  [[nodiscard]] uint64_t granted_buffer_bytes() const;
  void append_counters(std::vector<Counter>& to) const;

  static constexpr uint32_t kMaxBuffers = 64;

 private:
  /// One datagram as the kernel handed it over: several segments, where GRO or the sender's GSO
  /// joined them.
  struct Buffer {
    std::byte* data = nullptr;
    uint32_t length = 0;
    uint32_t offset = 0;  ///< up to here it is cut
    uint32_t segment_bytes = 0;
    uint16_t source_port = 0;
    uint16_t next_identification = 0;  ///< what the next segment's should be, IPv4
    uint8_t traffic_class = 0;
    wire::IpAddress source;
    uint8_t hop_limit = 0;
    wire::IpAddress destination;
    iovec iov;
    sockaddr_storage name;
    alignas(cmsghdr) std::byte control[3 * CMSG_SPACE(sizeof(int))];
  };

  void recycle() noexcept;
  size_t fill(const Listener& listener, size_t wanted) noexcept;
  void arrived(Buffer& buffer, const mmsghdr& header) noexcept;
  size_t cut(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept;
  bool cut_one(Buffer& buffer, wire::RxPacket& out, base::TimeNs now) noexcept;
  bool icrc_fits(Buffer& buffer, std::span<const std::byte> packet) noexcept;
  void drop(const wire::RxPacket& packet, std::string_view reason, base::TimeNs now) noexcept;

  std::vector<Listener> listeners_;
  base::UniqueFd epoll_;  ///< over the listeners, for who sleeps
  bool with_icrc_;
  std::unique_ptr<std::byte[]> memory_;
  std::array<Buffer, kMaxBuffers> buffers_;
  std::array<mmsghdr, kMaxBuffers> headers_;
  /// Free buffers; the last one was used last and is the warmest.
  std::array<uint8_t, kMaxBuffers> free_;
  uint32_t free_count_ = 0;
  /// Filled buffers in order of arrival. Those before cut_count_ are cut to the end, but what they
  /// hold was handed out by the last receive.
  std::array<uint8_t, kMaxBuffers> filled_;
  uint32_t filled_count_ = 0;
  uint32_t cut_count_ = 0;
  size_t next_listener_ = 0;
  DropObserver* observer_ = nullptr;

  uint64_t packets_ = 0;
  uint64_t bytes_ = 0;
  uint64_t datagrams_ = 0;
  uint64_t trains_ = 0;
  uint64_t too_short_ = 0;
  uint64_t too_long_ = 0;
  uint64_t icrc_exact_ = 0;
  uint64_t icrc_plausible_ = 0;
  uint64_t icrc_wrong_ = 0;
  uint64_t errors_ = 0;
};

}  // namespace flexins::port
