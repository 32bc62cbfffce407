#pragma once

#include "transport/qp.h"
#include "transport/qp_core.h"
#include "transport/requester.h"
#include "transport/responder.h"

namespace flexins::transport {

/// A reliable connection, or one end of an extended one (IBTA annex A14): an initiator has no
/// receive side, and a target no send side; its requests each name the SRQ that they are for.
class RcQp final : public Qp {
 public:
  explicit RcQp(const QpConfig& config);

  [[nodiscard]] bool allocate() { return requester_.allocate(); }

  base::Result<void> modify(const base::QpAttributes& attributes, uint32_t mask,
                            base::TimeNs now) override;
  [[nodiscard]] base::QpAttributes query() const override;
  [[nodiscard]] base::QpState state() const noexcept override { return core_.state; }
  void set_path(const wire::Path* path, PeerWindow* peer) noexcept override;
  [[nodiscard]] bool post_send(const SendWqe& wqe, base::TimeNs now) noexcept override;
  void flush_receives() noexcept override;
  void on_packet(const wire::Headers& headers, std::span<const iovec> payload,
                 uint32_t payload_length, const wire::IpAddress& source, bool congestion,
                 base::TimeNs now) noexcept override;
  [[nodiscard]] TxStatus next_packet(wire::TxPacket& out, base::TimeNs now) noexcept override;
  [[nodiscard]] base::TimeNs deadline() const noexcept override { return requester_.deadline(); }
  void on_deadline(base::TimeNs now) noexcept override;
  [[nodiscard]] const QpCounters& counters() const noexcept override { return core_.counters; }
  [[nodiscard]] const QpConfig& config() const noexcept override { return core_.config; }
  [[nodiscard]] std::optional<Tombstone> tombstone() const override;
  [[nodiscard]] uint32_t outstanding_sends() const noexcept override {
    return requester_.outstanding();
  }

 private:
  [[nodiscard]] base::Result<void> move_to(base::QpState to);
  [[nodiscard]] bool sends() const noexcept {
    return core_.config.type != base::QpType::kXrcReceive;
  }
  [[nodiscard]] bool receives() const noexcept {
    return core_.config.type != base::QpType::kXrcSend;
  }
  [[nodiscard]] bool from_peer(const wire::Headers& headers,
                               const wire::IpAddress& source) const noexcept;
  [[nodiscard]] bool acceptable(const wire::Headers& headers,
                                const wire::IpAddress& source) const noexcept;
  void dispatch(const wire::Headers& headers, std::span<const iovec> payload,
                uint32_t payload_length, base::TimeNs now) noexcept;
  /// To be called at the end of whatever may have failed or drained.
  void settle() noexcept;
  void enter_error() noexcept;

  QpCore core_;
  Requester requester_;
  Responder responder_;
  bool established_ = false;   ///< a packet came, or the application said so by moving on
  bool drain_notify_ = false;  ///< kSqDrained is wanted
  bool draining_ = false;      ///< in kSendQueueDrained with requests still under way
};

}  // namespace flexins::transport
