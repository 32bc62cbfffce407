#pragma once

#include "base/flow.h"
#include "protocol/messages.h"

/// Session messages of datagrams: address handles, multicast groups and raw packet flows.

namespace flexins::protocol {

struct CreateAhRequest {
  static constexpr MessageType kType = MessageType::kCreateAh;
  MessageHeader header;
  uint32_t pd;
  uint32_t reserved;
  base::AddressVector address;
};
struct CreateAhReply {
  MessageHeader header;
  uint32_t ah;
  uint32_t reserved;
};
/// Work requests that were posted with it are not touched.
struct DestroyAhRequest {
  static constexpr MessageType kType = MessageType::kDestroyAh;
  MessageHeader header;
  uint32_t ah;
  uint32_t reserved;
};

/// A datagram QP and a group. EINVAL: not such a QP, no group, or (detaching) not in it.
struct AttachMulticastRequest {
  static constexpr MessageType kType = MessageType::kAttachMulticast;
  MessageHeader header;
  base::Gid group;
  uint32_t qpn;
  uint32_t reserved;
};
struct DetachMulticastRequest {
  static constexpr MessageType kType = MessageType::kDetachMulticast;
  MessageHeader header;
  base::Gid group;
  uint32_t qpn;
  uint32_t reserved;
};

/// Frames that a raw packet QP wants.
struct CreateFlowRequest {
  static constexpr MessageType kType = MessageType::kCreateFlow;
  MessageHeader header;
  uint32_t qpn;
  uint32_t counters;  ///< 0: none
  base::FlowRule rule;
};
struct CreateFlowReply {
  MessageHeader header;
  uint32_t flow;
  uint32_t reserved;
};
struct DestroyFlowRequest {
  static constexpr MessageType kType = MessageType::kDestroyFlow;
  MessageHeader header;
  uint32_t qpn;
  uint32_t flow;
};

/// What frames of flows are counted in.
struct CreateCountersRequest {
  static constexpr MessageType kType = MessageType::kCreateCounters;
  MessageHeader header;
};
struct CreateCountersReply {
  MessageHeader header;
  uint32_t counters;
  uint32_t reserved;
};
struct ReadCountersRequest {
  static constexpr MessageType kType = MessageType::kReadCounters;
  MessageHeader header;
  uint32_t counters;
  uint32_t reserved;
};
struct ReadCountersReply {
  MessageHeader header;
  base::FlowCounts counts;
};
/// EBUSY: flows are still counted there.
struct DestroyCountersRequest {
  static constexpr MessageType kType = MessageType::kDestroyCounters;
  MessageHeader header;
  uint32_t counters;
  uint32_t reserved;
};

static_assert(sizeof(CreateAhRequest) == 56);

}  // namespace flexins::protocol
