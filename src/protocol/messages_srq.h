#pragma once

#include "protocol/messages.h"

/// Shared receive queues.

namespace flexins::protocol {

struct CreateSrqRequest {
  static constexpr MessageType kType = MessageType::kCreateSrq;
  MessageHeader header;
  uint64_t cookie;  ///< comes back in async events: the application's struct ibv_srq *
  uint32_t pd;
  uint32_t max_wr;  ///< 1 … Limits::kMaxSrqWr
  uint32_t max_sge;
  uint32_t xrcd;  ///< of an XRC SRQ; 0: an ordinary one
  uint32_t cq;    ///< of an XRC SRQ
  uint32_t reserved;
};
/// Descriptor 0: receive ring, pipe::receive_ring_bytes(depth, max_sge). The engine says in the
/// ring's header what it has taken.
struct CreateSrqReply {
  MessageHeader header;
  uint32_t srq;    ///< its number, 24 bits
  uint32_t depth;  ///< entries of the ring, a power of two
};
/// Arms the limit event: kSrqLimitReached comes once when fewer than `limit` entries are left.
/// 0 disarms.
struct ModifySrqRequest {
  static constexpr MessageType kType = MessageType::kModifySrq;
  MessageHeader header;
  uint32_t srq;
  uint32_t limit;
};
/// The SRQ goes on in another ring, with what is posted and not taken; positions go on, too. The
/// application posts nothing meanwhile. EINVAL: more is posted than `max_wr`, or the armed limit is
/// larger.
struct ResizeSrqRequest {
  static constexpr MessageType kType = MessageType::kResizeSrq;
  MessageHeader header;
  uint32_t srq;
  uint32_t max_wr;  ///< 1 … Limits::kMaxSrqWr
};
/// Descriptor 0: the ring.
struct ResizeSrqReply {
  MessageHeader header;
  uint32_t depth;  ///< entries of the ring, a power of two
  uint32_t reserved;
};
struct QuerySrqRequest {
  static constexpr MessageType kType = MessageType::kQuerySrq;
  MessageHeader header;
  uint32_t srq;
  uint32_t reserved;
};
struct QuerySrqReply {
  MessageHeader header;
  uint32_t limit;  ///< 0: not armed
  uint32_t reserved;
};
/// EBUSY: QPs still use it. Answered by DestroyReply.
struct DestroySrqRequest {
  static constexpr MessageType kType = MessageType::kDestroySrq;
  MessageHeader header;
  uint32_t srq;
  uint32_t reserved;
};

}  // namespace flexins::protocol
