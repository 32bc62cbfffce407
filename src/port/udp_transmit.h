#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/time.h"
#include "base/unique_fd.h"
#include "port/port.h"
#include "port/udp_gather.h"
#include "port/udp_message.h"
#include "port/udp_socket.h"

namespace flexins::port {

/// The sending half of the UDP port.
class UdpTransmit {
 public:
  /// One socket; its port is the flow that switches see.
  struct Flow {
    base::UniqueFd fd;
    uint16_t port = 0;
  };
  /// One local address and the sockets that send from it; at least one.
  struct Source {
    wire::IpAddress address;
    uint32_t scope_id = 0;
    std::vector<Flow> flows;
  };

  /// `copy_payload_bytes`: as UdpGather has it.
  UdpTransmit(std::vector<Source> sources, uint32_t segments_max, bool with_icrc,
              uint32_t copy_payload_bytes);

  /// As Port::transmit.
  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept;
  void observe_drops(DropObserver* observer) { observer_ = observer; }
  void append_counters(std::vector<Counter>& to) const;

 private:
  enum Drop : uint8_t {
    kMemoryGone,   ///< the payload could not be read
    kTooLong,      ///< longer than the path's MTU
    kUnreachable,  ///< no route
    kNoSource,     ///< the source address is not one of ours
    kCorrupt,      ///< marked corrupt where there is no ICRC to spoil
    kRefused,      ///< any other error of the kernel (a firewall)
    kDropReasons,
  };

  [[nodiscard]] const Source* source_of(const wire::Path& path) const noexcept;
  size_t transmit_train(std::span<wire::TxPacket> burst, const Source& source,
                        base::TimeNs now) noexcept;
  size_t gather_joined(std::span<wire::TxPacket> train, const Flow& flow) noexcept;
  void commit_joined(std::span<wire::TxPacket> train, base::TimeNs now) noexcept;
  size_t send_singly(std::span<wire::TxPacket> train, const Flow& flow, UdpMessage& message,
                     base::TimeNs now) noexcept;
  size_t send_gathered(std::span<wire::TxPacket> train, const Flow& flow, UdpMessage& message,
                       base::TimeNs now) noexcept;
  [[nodiscard]] bool must_be_single(const wire::IpAddress& destination,
                                    base::TimeNs now) const noexcept;
  void remember_single(const wire::IpAddress& destination, base::TimeNs now) noexcept;
  void drop(const wire::TxPacket& packet, Drop reason, base::TimeNs now) noexcept;
  void count_sent(const wire::TxPacket& packet) noexcept;

  /// Destinations whose device cannot cut a datagram into segments; asked again after a while.
  struct Single {
    wire::IpAddress destination;
    base::TimeNs until = 0;
  };
  static constexpr size_t kSingles = 64;

  std::vector<Source> sources_;
  uint32_t segments_max_;
  bool with_icrc_;
  UdpGather gather_;
  /// Packets of the train in gather_ whose payload could not be read.
  std::bitset<kMaxSegments> gone_;
  std::array<mmsghdr, kMaxSegments> headers_;
  std::array<Single, kSingles> singles_{};
  DropObserver* observer_ = nullptr;

  uint64_t packets_ = 0;
  uint64_t bytes_ = 0;
  uint64_t datagrams_ = 0;
  uint64_t trains_ = 0;
  std::array<uint64_t, kDropReasons> drops_{};
};

}  // namespace flexins::port
