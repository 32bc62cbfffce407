#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "transport/qp_core.h"
#include "transport/remote_operations.h"
#include "transport/scatter.h"

namespace flexins::transport {

/// The receiving half of a reliable connection: executes requests and answers them. Answers are
/// remembered and made into packets when next_packet is called, so that one acknowledgement
/// covers all that a train brought.
class Responder {
 public:
  explicit Responder(QpCore& core) : core_(core) {}

  /// Where receives come from, until an XRC request names another queue.
  void serve(const ReceiveQueue& queue) noexcept { queue_ = queue; }

  /// Forgets everything, without completions.
  void reset() noexcept;
  /// Begins at the rq_psn of the attributes (move to kReadyToReceive). False when memory is short.
  [[nodiscard]] bool start();
  /// Completes the receive that a message is arriving in, and all that are posted, with kWrFlush.
  void flush() noexcept;
  void flush_posted() noexcept;
  /// Forgets answers that are due.
  void silence() noexcept;

  void on_request(const wire::Headers& headers, std::span<const iovec> payload,
                  uint32_t payload_length) noexcept;

  /// Everything before this PSN was received.
  [[nodiscard]] base::Psn expected() const noexcept { return expected_; }
  [[nodiscard]] uint32_t msn() const noexcept { return msn_; }

  /// False when no answer is due, or its memory does not answer at present.
  [[nodiscard]] bool next_packet(wire::TxPacket& out, base::TimeNs now) noexcept;

 private:
  enum class Message : uint8_t { kNone, kSend, kWrite };
  enum class Reply : uint8_t { kNone, kAck, kRnr, kSequence, kFatal };

  /// A request packet under way through the responder.
  struct Request {
    const wire::Headers& headers;
    std::span<const iovec> payload;
    uint32_t length;
    bool first;  ///< FIRST or ONLY
    bool last;   ///< LAST or ONLY
  };

  // responder_request.cc: sequence, framing and dispatch.
  void execute(const Request& request) noexcept;
  [[nodiscard]] bool well_framed(const Request& request, Message kind) const noexcept;
  void accept(const Request& request, uint32_t packets, bool answered) noexcept;
  void out_of_sequence(base::Psn psn) noexcept;
  void acknowledge() noexcept;

  // responder_xrc.cc
  [[nodiscard]] bool choose_queue(const wire::Headers& headers) noexcept;
  void find_queue() noexcept;

  // responder_send.cc
  [[nodiscard]] bool take_receive() noexcept;
  void on_send(const Request& request) noexcept;
  void complete_receive(base::WcStatus status, const Request* request) noexcept;

  // responder_write.cc
  void on_write(const Request& request) noexcept;
  [[nodiscard]] bool begin_write(const Request& request) noexcept;
  [[nodiscard]] bool place_write(const Request& request) noexcept;

  // responder_read.cc, responder_atomic.cc and responder_atomic_write.cc
  void on_read(const Request& request) noexcept;
  void on_atomic(const Request& request) noexcept;
  void on_atomic_write(const Request& request) noexcept;

  // responder_duplicate.cc
  void on_duplicate(const Request& request) noexcept;
  void repeat_read(const wire::Headers& headers) noexcept;
  void repeat_atomic(const wire::Headers& headers) noexcept;
  void repeat_atomic_write(const wire::Headers& headers) noexcept;

  // responder_error.cc
  void refuse_not_ready() noexcept;
  void refuse(uint8_t syndrome, base::WcStatus receive_status) noexcept;
  void break_off(uint8_t syndrome, base::Psn psn) noexcept;

  // responder_reply.cc
  [[nodiscard]] bool reply_read(RemoteOperation& operation, wire::TxPacket& out,
                                base::TimeNs now) noexcept;
  void reply_atomic(RemoteOperation& operation, wire::TxPacket& out) noexcept;
  void reply_acknowledge(wire::TxPacket& out) noexcept;

  [[nodiscard]] Domain domain() const noexcept { return {core_.config.regions, queue_.pd}; }
  /// The region that grants `access` to a remote range in `pd`, or null.
  [[nodiscard]] memory::Region* remote(uint32_t key, uint32_t access, uint64_t address,
                                       uint64_t length, base::PdId pd) const noexcept;
  /// The same in the domain of the queue that is served.
  [[nodiscard]] memory::Region* remote(uint32_t key, uint32_t access, uint64_t address,
                                       uint64_t length) const noexcept {
    return remote(key, access, address, length, queue_.pd);
  }

  QpCore& core_;
  RemoteOperations operations_;

  /// Of the request under way. XRC: it may be gone when a call begins, and is looked up anew.
  ReceiveQueue queue_;
  uint32_t srqn_ = 0;  ///< XRC: of the message that is arriving

  base::Psn expected_;
  base::Psn gap_end_;  ///< highest PSN that arrived too early, while gap_reported_
  uint32_t msn_ = 0;
  uint32_t retired_ = 0;  ///< receives completed
  Message message_ = Message::kNone;
  bool gap_reported_ = false;  ///< a NAK for the packet expected now was given
  /// receive_ belongs to the message that is arriving, or to the one whose first packet is awaited
  /// once more.
  bool receiving_ = false;

  Reply reply_ = Reply::kNone;
  uint8_t syndrome_ = 0;    ///< of a fatal reply
  base::Psn reply_psn_;     ///< of an ACK or a fatal reply
  uint32_t reply_msn_ = 0;  ///< of an ACK

  uint64_t received_bytes_ = 0;  ///< of the message that is arriving
  uint64_t write_address_ = 0;
  uint32_t write_length_ = 0;
  uint32_t write_key_ = 0;
  uint64_t receive_length_ = 0;
  ReceiveWqe receive_;
};

}  // namespace flexins::transport
