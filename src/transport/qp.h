#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "base/verbs_types.h"
#include "memory/region.h"
#include "transport/interfaces.h"
#include "transport/tombstone.h"
#include "wire/headers.h"
#include "wire/packet.h"

namespace flexins::transport {

/// What a QP is made of. Pointers outlive the QP.
struct QpConfig {
  base::Qpn qpn;
  base::PdId pd;
  base::QpType type = base::QpType::kReliable;
  uint32_t max_send_wr = 1;
  uint32_t max_send_sge = 1;
  uint32_t max_inline_bytes = 0;
  uint32_t frame_bytes_max = 0;  ///< raw packet QPs: of one frame
  bool signal_all = false;       ///< sq_sig_all
  memory::RegionTable* regions = nullptr;
  CompletionSink* send_cq = nullptr;
  CompletionSink* receive_cq = nullptr;
  ReceiveSource* receives = nullptr;
  /// `receives` is shared with other QPs: it stays as it is when this one fails, and the owner
  /// hears kLastWqeReached instead of flush completions (IBTA 10.2.9.3).
  bool shared_receives = false;
  /// XRC targets, and only those: each request names the SRQ that it is for.
  ReceiveQueues* domain = nullptr;
  QpObserver* observer = nullptr;
  /// Largest READ in flight per request packet: a longer READ goes out as several requests, so that
  /// its responses do not overrun our own receive buffer.
  uint32_t read_chunk_bytes = 64 * 1024;
};

/// What a QP counted; for `flexins status`.
struct QpCounters {
  uint64_t packets_sent = 0;
  uint64_t packets_received = 0;
  uint64_t payload_bytes_sent = 0;
  uint64_t payload_bytes_received = 0;
  uint64_t payload_bytes_staged = 0;  ///< copied by the engine on the way out
  uint64_t packets_retransmitted = 0;
  uint64_t timeouts = 0;
  uint64_t naks_sent = 0;
  uint64_t naks_received = 0;
  uint64_t rnr_naks_sent = 0;
  uint64_t rnr_naks_received = 0;
  uint64_t duplicates_received = 0;
  uint64_t out_of_sequence_received = 0;
  uint64_t qkey_violations = 0;   ///< datagrams dropped: another Q_Key than the QP's
  uint64_t no_receive_drops = 0;  ///< datagrams dropped: no receive was posted
  uint64_t dropped_received = 0;  ///< wrong state, wrong source, stale ACK, impossible opcode
};

/// Why next_packet gave none, or that it did.
enum class TxStatus : uint8_t {
  kPacket,         ///< `out` holds a packet
  kIdle,           ///< nothing to send until something is posted, arrives, or a deadline passes
  kBlockedOnPeer,  ///< has work, but the peer's window is full: offer again when it has opened
};

/// A queue pair without I/O: requester, responder and completer of one reliable connection, or the
/// two halves of a datagram or raw packet QP. Time
/// is an argument; nothing is allocated after create, but for modify to kReadyToReceive, which
/// makes room for the peer's READs; no call blocks.
class Qp {
 public:
  virtual ~Qp() = default;

  /// Errors: EINVAL for a limit of base::Limits exceeded, ENOMEM.
  static base::Result<std::unique_ptr<Qp>> create(const QpConfig& config);

  /// The verbs state machine (IBTA 10.3, table 91): checks the transition and its attribute mask
  /// (base::QpAttributeMask), then applies it. Errors: EINVAL, nothing is changed then.
  /// Moving to kError flushes; moving to kReset forgets everything without completions.
  virtual base::Result<void> modify(const base::QpAttributes& attributes, uint32_t mask,
                                    base::TimeNs now) = 0;
  [[nodiscard]] virtual base::QpAttributes query() const = 0;
  [[nodiscard]] virtual base::QpState state() const noexcept = 0;

  /// The way to the peer, set by the owner before the move to kReadyToReceive; both outlive the QP.
  virtual void set_path(const wire::Path* path, PeerWindow* peer) noexcept = 0;

  /// Copies a send work request into the private send queue. False when that is full or the QP is
  /// in a state that takes none (kReset, kInit, kReadyToReceive). In kError it completes at once
  /// with kWrFlush; a request with a bad opcode, key or length completes with its error when its
  /// turn comes and moves the QP to kError.
  [[nodiscard]] virtual bool post_send(const SendWqe& wqe, base::TimeNs now) noexcept = 0;

  /// In kError: completes all receives that are posted with kWrFlush. Elsewhere nothing.
  virtual void flush_receives() noexcept = 0;

  /// A packet whose destination is this QP, parsed; `payload` names its bytes without the pad.
  /// `source` is the IP address it came from: a packet that is not from the peer is dropped.
  /// For datagram QPs the payload begins with the 40 bytes of the GRH (wire/global_route.h).
  virtual void on_packet(const wire::Headers& headers, std::span<const iovec> payload,
                         uint32_t payload_length, const wire::IpAddress& source, bool congestion,
                         base::TimeNs now) noexcept = 0;

  /// The next packet to send: responses first, then requests. Fills path, header, pieces and
  /// lengths of `out`; `out.staging` has room for wire::kMaxMtuBytes.
  [[nodiscard]] virtual TxStatus next_packet(wire::TxPacket& out, base::TimeNs now) noexcept = 0;

  /// Every packet that next_packet gave so far has left, or was lost on the way out: what nobody
  /// acknowledges completes now.
  virtual void on_transmitted() noexcept {}

  /// When on_deadline wants to be called (base::kNever: not at all). Changes with every call above.
  [[nodiscard]] virtual base::TimeNs deadline() const noexcept = 0;
  virtual void on_deadline(base::TimeNs now) noexcept = 0;

  [[nodiscard]] virtual const QpCounters& counters() const noexcept = 0;
  [[nodiscard]] virtual const QpConfig& config() const noexcept = 0;
  /// What to keep of a connection that is about to be destroyed; none where it never was one.
  [[nodiscard]] virtual std::optional<Tombstone> tombstone() const = 0;
  /// Send work requests posted and not yet completed or retired.
  [[nodiscard]] virtual uint32_t outstanding_sends() const noexcept = 0;
};

}  // namespace flexins::transport
