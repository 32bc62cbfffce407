#pragma once

#include "protocol/messages.h"

/// Session messages of datagrams: address handles.

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

static_assert(sizeof(CreateAhRequest) == 56);

}  // namespace flexins::protocol
