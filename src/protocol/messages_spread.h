#pragma once

#include "base/flow.h"
#include "protocol/messages.h"

/// Receive side scaling. A receive work queue is made, moved and destroyed as a QP of type
/// base::QpType::kReceiveQueue.

namespace flexins::protocol {

/// EINVAL: `queue_count` is no power of two, or a number is of no receive work queue of this
/// context. Variable length: only `queue_count` numbers are sent.
struct CreateSpreadTableRequest {
  static constexpr MessageType kType = MessageType::kCreateSpreadTable;
  MessageHeader header;
  uint32_t queue_count;
  uint32_t reserved;
  uint32_t queues[base::Limits::kMaxSpreadTableSize];
};
struct CreateSpreadTableReply {
  MessageHeader header;
  uint32_t table;
  uint32_t reserved;
};
/// EBUSY: QPs still use it.
struct DestroySpreadTableRequest {
  static constexpr MessageType kType = MessageType::kDestroySpreadTable;
  MessageHeader header;
  uint32_t table;
  uint32_t reserved;
};

/// A raw packet QP without queues of its own: frames that its flows want are spread over those of
/// the table. It is destroyed as other QPs are, and has no states. EPERM as for those.
struct CreateSpreadingQpRequest {
  static constexpr MessageType kType = MessageType::kCreateSpreadingQp;
  MessageHeader header;
  uint64_t cookie;
  uint32_t pd;
  uint32_t table;
  base::ReceiveHash hash;
};
struct CreateSpreadingQpReply {
  MessageHeader header;
  uint32_t qpn;
  uint32_t reserved;
};

static_assert(sizeof(CreateSpreadTableRequest) <= kMaxMessageBytes);

}  // namespace flexins::protocol
