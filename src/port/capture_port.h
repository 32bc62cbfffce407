#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "port/capture_file.h"
#include "port/limits.h"
#include "port/pcapng.h"
#include "port/port.h"
#include "wire/internet.h"

namespace flexins::port {

/// Writes the packets of the port below to a pcapng file of link type "raw IP", with the IP and
/// UDP headers that they (would) have on the wire, identification 0 and the ICRC that fits. Drops
/// that the port below or the engine tells of carry their reason as a comment. Put it outermost.
class CapturePort final : public Port, private DropObserver {
 public:
  /// `inner` outlives this port. Not capturing until start().
  explicit CapturePort(Port& inner);
  ~CapturePort() override;
  CapturePort(const CapturePort&) = delete;
  CapturePort& operator=(const CapturePort&) = delete;

  /// Captures into `path`, which is overwritten. EBUSY if a capture runs. Control path, as stop().
  base::Result<void> start(const std::string& path);
  /// Ends the capture and waits for the disk. The error is that of writing the file, or ENOENT if
  /// none runs.
  base::Result<void> stop();
  [[nodiscard]] bool capturing() const { return file_ != nullptr; }

  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept override;
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept override;
  void note_dropped(const wire::RxPacket& packet, std::string_view reason) noexcept override;
  void observe_drops(DropObserver* observer) override { next_observer_ = observer; }

  base::Result<void> join(const wire::IpAddress& group) override { return inner_.join(group); }
  void leave(const wire::IpAddress& group) override { inner_.leave(group); }
  [[nodiscard]] std::vector<int> poll_fds() const override { return inner_.poll_fds(); }
  [[nodiscard]] base::TimeNs next_event() const override { return inner_.next_event(); }
  [[nodiscard]] Capabilities capabilities() const override { return inner_.capabilities(); }
  /// The inner port's, and those of this or the last capture.
  [[nodiscard]] std::vector<Counter> counters() const override;
  [[nodiscard]] std::string_view name() const override { return inner_.name(); }

 private:
  void transmit_dropped(const wire::TxPacket& packet, std::string_view reason,
                        base::TimeNs now) noexcept override;
  void receive_dropped(const wire::RxPacket& packet, std::string_view reason,
                       base::TimeNs now) noexcept override;

  void write_received() noexcept;
  void write_sent(const wire::TxPacket& packet, std::string_view comment,
                  base::TimeNs now) noexcept;
  void write_arrived(const wire::RxPacket& packet, bool has_icrc, std::string_view comment,
                     base::TimeNs now) noexcept;
  void write_block(const wire::DatagramHeaders& headers, size_t transport_length,
                   pcapng::Direction direction, std::string_view comment,
                   base::TimeNs now) noexcept;
  [[nodiscard]] uint64_t wall_clock(base::TimeNs now) noexcept;

  static constexpr size_t kNotes = 256;
  /// A drop told of while the burst that holds the packet is on its way.
  struct SentNote {
    const wire::TxPacket* packet;
    std::string_view reason;
  };
  /// A received packet whose fate the engine may still tell; written at the next call.
  struct ReceivedNote {
    wire::RxPacket packet;
    std::string_view reason;
  };

  Port& inner_;
  DropObserver* next_observer_ = nullptr;
  std::unique_ptr<CaptureFile> file_;
  /// From the caller's clock to that of the wall; set by the first packet.
  uint64_t clock_offset_ = 0;
  bool has_clock_ = false;

  std::span<const wire::TxPacket> sending_;
  std::array<SentNote, kNotes> sent_notes_;
  size_t sent_count_ = 0;
  const wire::RxPacket* received_first_ = nullptr;
  std::array<ReceivedNote, kNotes> received_;
  size_t received_count_ = 0;
  base::TimeNs received_at_ = 0;

  uint64_t packets_ = 0;
  uint64_t missed_ = 0;
  /// One block: IP and UDP in front of the packet.
  std::array<std::byte,
             pcapng::kPacketOverheadBytes + wire::kIpv6HeaderBytes + wire::kUdpHeaderBytes + 65536>
      block_;
};

}  // namespace flexins::port
