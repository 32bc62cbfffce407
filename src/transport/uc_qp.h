#pragma once

#include "transport/qp.h"
#include "transport/qp_core.h"
#include "transport/scatter.h"
#include "transport/send_queue.h"

namespace flexins::transport {

/// An unreliable connection (IBTA 9.8.2): SEND and WRITE to one peer, nothing is acknowledged. A
/// message that lost a packet is dropped as a whole; the next one is received again. A send
/// completes when its last packet has left.
///
/// Requests in [queue head, cursor_) are with the port; packets_sent_ of the one at cursor_ too. A
/// request that cannot be sent waits until all before it have left, completes with its error and
/// takes the QP to kSendQueueError, where receiving goes on (IBTA 10.3.1).
class UcQp final : public Qp {
 public:
  explicit UcQp(const QpConfig& config) {
    core_.config = config;
    core_.transport = wire::TransportClass::kUnreliable;
  }

  [[nodiscard]] bool allocate() { return queue_.allocate(core_.config); }

  base::Result<void> modify(const base::QpAttributes& attributes, uint32_t mask,
                            base::TimeNs now) override;
  [[nodiscard]] base::QpAttributes query() const override;
  [[nodiscard]] base::QpState state() const noexcept override { return core_.state; }
  void set_path(const wire::Path* path, PeerWindow*) noexcept override { core_.path = path; }
  [[nodiscard]] bool post_send(const SendWqe& wqe, base::TimeNs now) noexcept override;
  void flush_receives() noexcept override;
  void on_packet(const wire::Headers& headers, std::span<const iovec> payload,
                 uint32_t payload_length, const wire::IpAddress& source, bool congestion,
                 base::TimeNs now) noexcept override;
  [[nodiscard]] TxStatus next_packet(wire::TxPacket& out, base::TimeNs now) noexcept override;
  void on_transmitted() noexcept override;
  [[nodiscard]] base::TimeNs deadline() const noexcept override { return core_.memory_deadline; }
  void on_deadline(base::TimeNs now) noexcept override {
    if (core_.memory_deadline <= now) core_.memory_deadline = base::kNever;
  }
  [[nodiscard]] const QpCounters& counters() const noexcept override { return core_.counters; }
  [[nodiscard]] const QpConfig& config() const noexcept override { return core_.config; }
  [[nodiscard]] std::optional<Tombstone> tombstone() const override { return std::nullopt; }
  [[nodiscard]] uint32_t outstanding_sends() const noexcept override { return queue_.size(); }

 private:
  enum class Message : uint8_t { kNone, kSend, kWrite };

  /// A packet under way through the receiving half.
  struct Arrival {
    const wire::Headers& headers;
    std::span<const iovec> payload;
    uint32_t length;
    bool first;  ///< FIRST or ONLY
    bool last;   ///< LAST or ONLY
  };

  // uc_qp.cc
  void apply(base::QpState to, uint32_t mask) noexcept;
  void settle_drain() noexcept;
  void enter_error() noexcept;

  // uc_send.cc
  [[nodiscard]] base::WcStatus validate(const SendEntry& entry) const noexcept;
  [[nodiscard]] memory::AccessResult build(const SendEntry& entry, wire::TxPacket& out) noexcept;
  void complete_head(base::WcStatus status) noexcept;
  void complete_flushed(const SendWqe& wqe) noexcept;
  void flush_sends() noexcept;

  // uc_receive.cc
  void receive_send(const Arrival& arrival) noexcept;
  void receive_write(const Arrival& arrival) noexcept;
  [[nodiscard]] bool begin_write(const Arrival& arrival) noexcept;
  [[nodiscard]] bool hold_receive() noexcept;
  void drop_message() noexcept;
  void complete_receive(base::WcStatus status, const Arrival* arrival) noexcept;
  [[nodiscard]] memory::Region* target(uint64_t address, uint64_t length) const noexcept;

  [[nodiscard]] Domain domain() const noexcept { return {core_.config.regions, core_.config.pd}; }

  QpCore core_;
  SendQueue queue_;
  uint32_t cursor_ = 0;
  uint32_t packets_sent_ = 0;
  uint32_t sends_retired_ = 0;
  base::Psn next_psn_;
  bool drain_notify_ = false;  ///< kSqDrained is wanted
  bool draining_ = false;      ///< in kSendQueueDrained with packets still to leave

  base::Psn expected_;
  Message message_ = Message::kNone;  ///< that is arriving; kNone: the rest of one is dropped
  bool established_ = false;
  bool holds_receive_ = false;  ///< receive_ is taken and not completed
  uint32_t receives_retired_ = 0;
  uint64_t received_bytes_ = 0;
  uint64_t receive_length_ = 0;
  uint64_t write_address_ = 0;
  uint32_t write_length_ = 0;
  uint32_t write_key_ = 0;
  ReceiveWqe receive_;
};

}  // namespace flexins::transport
