#pragma once

#include <memory>

#include "transport/qp.h"
#include "transport/qp_core.h"
#include "transport/scatter.h"
#include "transport/send_queue.h"

namespace flexins::transport {

/// An unreliable datagram QP (IBTA 9.8.3): each work request is one packet to the peer that it
/// names. Nothing is acknowledged; a send completes when its packet has left. A raw packet QP is
/// the same without addresses, headers and Q_Key: what is sent and received are Ethernet frames.
/// A receive work queue is the receiving half of such a QP.
///
/// Requests in [queue head, cursor_) are with the port, [cursor_, tail) wait. A request that cannot
/// be sent waits until all before it have left, completes with its error and takes the QP to
/// kSendQueueError, where receiving goes on (IBTA 10.3.1).
class UdQp final : public Qp {
 public:
  explicit UdQp(const QpConfig& config) { core_.config = config; }

  [[nodiscard]] bool allocate();

  base::Result<void> modify(const base::QpAttributes& attributes, uint32_t mask,
                            base::TimeNs now) override;
  [[nodiscard]] base::QpAttributes query() const override;
  [[nodiscard]] base::QpState state() const noexcept override { return core_.state; }
  /// Each packet has a path of its own.
  void set_path(const wire::Path*, PeerWindow*) noexcept override {}
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
  /// Where a request in the send queue goes.
  struct Destination {
    wire::Path path;
    uint32_t qpn = 0;
    uint32_t qkey = 0;
  };

  [[nodiscard]] base::WcStatus judge(const SendWqe& wqe, const SendEntry& entry) const noexcept;
  [[nodiscard]] memory::AccessResult build(SendEntry& entry, wire::TxPacket& out) noexcept;
  void complete_head(base::WcStatus status) noexcept;
  void complete_flushed(const SendWqe& wqe) noexcept;
  void receive(const wire::Headers& headers, std::span<const iovec> payload, uint32_t length,
               const wire::IpAddress& source) noexcept;
  void complete_receive(uint64_t wr_id, base::WcStatus status) noexcept;
  void fail_sends(base::WcStatus status) noexcept;
  void enter_error() noexcept;
  void settle_drain() noexcept;

  [[nodiscard]] bool is_raw() const noexcept {
    return core_.config.type == base::QpType::kRawPacket || is_queue();
  }
  [[nodiscard]] bool is_queue() const noexcept {
    return core_.config.type == base::QpType::kReceiveQueue;
  }
  void build_headers(const SendEntry& entry, const Destination& to, wire::TxPacket& out) noexcept;
  [[nodiscard]] Domain domain() const noexcept { return {core_.config.regions, core_.config.pd}; }
  [[nodiscard]] Destination& destination(uint32_t index) noexcept {
    return destinations_[index & mask_];
  }

  QpCore core_;
  SendQueue queue_;
  std::unique_ptr<Destination[]> destinations_;  ///< by place in the send queue
  uint32_t mask_ = 0;
  uint32_t cursor_ = 0;
  uint32_t sends_retired_ = 0;
  uint32_t receives_retired_ = 0;
  base::Psn next_psn_;
  ReceiveWqe receive_;
  bool holds_receive_ = false;  ///< receive_ is taken and not completed
  bool drain_notify_ = false;   ///< kSqDrained is wanted
  bool draining_ = false;       ///< in kSendQueueDrained with packets still with the port
};

}  // namespace flexins::transport
