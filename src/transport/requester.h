#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "transport/qp_core.h"
#include "transport/recovery/go_back_n.h"
#include "transport/scatter.h"
#include "transport/send_queue.h"

namespace flexins::transport {

/// The sending half of a reliable connection: the requester (send queue to packets) and the
/// completer (answers to completions).
///
/// PSNs are held extended to 64 bits, so that they only grow. Always:
///   unacked_ <= next_psn_ <= sent_end_ and unacked_ <= known_ <= sent_end_;
///   the peer is known to have everything below known_; what lies in [unacked_, known_) waits for
///   the data of a READ or atomic;
///   in_flight_bytes_ is the cost of [unacked_, next_psn_), charged to the peer's window.
/// Requests in [queue head, started_) have their PSNs; cursor_ is the one that next_psn_ lies in
/// or begins. One that is done here (SendEntry::is_local) takes no PSN and is never at the head of
/// those that have begun, unless it failed.
class Requester {
 public:
  explicit Requester(QpCore& core) : core_(core) {}
  ~Requester() { release_window(); }
  Requester(const Requester&) = delete;
  Requester& operator=(const Requester&) = delete;

  [[nodiscard]] bool allocate() { return queue_.allocate(core_.config); }

  /// Forgets everything, without completions.
  void reset() noexcept;
  /// Begins at the sq_psn of the attributes (move to kReadyToSend).
  void start() noexcept;
  /// Takes the retry limits from the attributes anew.
  void reload_retries() noexcept;
  /// Completes everything with kWrFlush.
  void flush() noexcept;
  /// Takes what is in flight from the old peer's window to the new one's.
  void change_peer(PeerWindow* peer) noexcept;

  [[nodiscard]] bool full() const noexcept { return queue_.full(); }
  [[nodiscard]] uint32_t outstanding() const noexcept { return queue_.size(); }
  /// True when every request that was begun has completed.
  [[nodiscard]] bool drained() const noexcept { return queue_.head() == started_; }
  void post(const SendWqe& wqe) noexcept { queue_.push(wqe); }
  void complete_flushed(const SendWqe& wqe) noexcept;

  [[nodiscard]] TxStatus next_packet(wire::TxPacket& out, base::TimeNs now) noexcept;

  /// Acknowledge, READ response or atomic acknowledge.
  void on_response(const wire::Headers& headers, std::span<const iovec> payload,
                   uint32_t payload_length, base::TimeNs now) noexcept;

  [[nodiscard]] base::TimeNs deadline() const noexcept {
    return std::min({ack_deadline_, rnr_deadline_, core_.memory_deadline});
  }
  void on_deadline(base::TimeNs now) noexcept;

 private:
  /// What a packet carries of its message.
  struct Segment {
    uint64_t offset = 0;   ///< of its payload in the message, bytes
    uint32_t length = 0;   ///< bytes of payload, or that a READ request asks for
    uint32_t packets = 1;  ///< PSNs it takes
    bool first = false;
    bool last = false;
  };

  // requester_transmit.cc: which request comes next, and whether it may.
  enum class Turn : uint8_t { kSend, kIdle, kBlockedOnPeer };
  [[nodiscard]] Turn take_turn() noexcept;
  [[nodiscard]] bool may_start(SendEntry& entry) noexcept;
  [[nodiscard]] base::WcStatus execute_local(const SendEntry& entry) noexcept;
  [[nodiscard]] base::WcStatus validate(const SendEntry& entry) noexcept;
  void skip_known() noexcept;
  void skip_local() noexcept;
  [[nodiscard]] bool solicit() noexcept;
  [[nodiscard]] bool transmit(wire::TxPacket& out, base::TimeNs now) noexcept;
  void account_sent(const SendEntry& entry, const Segment& segment, bool asked) noexcept;

  // requester_packet.cc: one packet of a request.
  [[nodiscard]] Segment segment_at(const SendEntry& entry, uint64_t psn) const noexcept;
  [[nodiscard]] memory::AccessResult build_payload(const SendEntry& entry, const Segment& segment,
                                                   wire::TxPacket& out) noexcept;
  void build_headers(const SendEntry& entry, const Segment& segment,
                     wire::Headers& headers) const noexcept;

  // requester_window.cc: bytes in flight.
  [[nodiscard]] uint64_t cost(const SendEntry& entry, uint64_t from, uint64_t to) const noexcept;
  [[nodiscard]] bool window_admits(uint64_t bytes) const noexcept;
  void charge(uint64_t bytes) noexcept;
  void uncharge(uint64_t bytes) noexcept;
  void release_window() noexcept { uncharge(in_flight_bytes_); }
  [[nodiscard]] bool wants_ack(const SendEntry& entry, const Segment& segment,
                               uint64_t bytes) const noexcept;
  [[nodiscard]] bool is_last_to_send() const noexcept;

  // requester_rewind.cc: sending again, and the timers.
  void rewind() noexcept;
  void repeat_lost() noexcept;
  void repeat_unplaced(base::TimeNs now) noexcept;
  [[nodiscard]] bool spend_retry() noexcept;
  void restart_ack_timer(base::TimeNs now) noexcept;

  // completer_ack.cc: progress of the oldest unacknowledged PSN.
  void on_acknowledge(const wire::Aeth& aeth, uint64_t psn, base::TimeNs now) noexcept;
  void acknowledge_below(uint64_t psn, base::TimeNs now) noexcept;
  void advance(uint64_t psn) noexcept;
  void progress(base::TimeNs now) noexcept;

  // completer_nak.cc
  void on_rnr_nak(uint8_t timer_code, uint64_t psn, base::TimeNs now) noexcept;
  void on_nak(uint8_t syndrome, uint64_t psn, base::TimeNs now) noexcept;

  // completer_data.cc: answers that carry data.
  void on_data(const wire::Headers& headers, std::span<const iovec> payload,
               uint32_t payload_length, uint64_t psn, base::TimeNs now) noexcept;
  void on_read_response(wire::Opcode opcode, std::span<const iovec> payload,
                        uint32_t payload_length, base::TimeNs now) noexcept;
  void on_atomic_response(uint64_t original, base::TimeNs now) noexcept;
  void on_atomic_write_response(wire::Opcode opcode, uint32_t payload_length,
                                base::TimeNs now) noexcept;

  // completer_complete.cc
  void complete_head(base::WcStatus status) noexcept;
  void complete_local() noexcept;
  void fail_head(base::WcStatus status) noexcept;

  [[nodiscard]] Domain domain() const noexcept { return {core_.config.regions, core_.config.pd}; }
  [[nodiscard]] uint32_t read_chunk_packets() const noexcept;
  /// The PSN after the READ request (of the possibly many of one READ) that `psn` belongs to.
  [[nodiscard]] uint64_t read_chunk_end(const SendEntry& entry, uint64_t psn) const noexcept;

  QpCore& core_;
  SendQueue queue_;
  GoBackN recovery_;

  uint64_t unacked_ = 0;
  uint64_t known_ = 0;
  uint64_t next_psn_ = 0;
  uint64_t sent_end_ = 0;
  uint64_t ack_requested_end_ = 0;  ///< an answer to all below has been asked for
  uint32_t cursor_ = 0;
  uint32_t started_ = 0;

  uint64_t in_flight_bytes_ = 0;
  uint64_t unasked_bytes_ = 0;    ///< sent since an acknowledgement was last asked for
  uint32_t unasked_packets_ = 0;  ///< likewise
  uint32_t reads_in_flight_ = 0;  ///< READ and atomic requests sent and not answered
  uint32_t reads_started_ = 0;    ///< READ and atomic work requests begun and not completed
  uint32_t retired_ = 0;
  bool soliciting_ = false;  ///< next_psn_ is one back to ask for an acknowledgement

  uint8_t retries_left_ = 0;
  uint8_t rnr_retries_left_ = 0;
  base::TimeNs ack_deadline_ = base::kNever;
  base::TimeNs rnr_deadline_ = base::kNever;  ///< also after repeat_unplaced
};

}  // namespace flexins::transport
