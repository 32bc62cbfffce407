#pragma once

#include "protocol/messages.h"

/// Memory windows. Binding and invalidating are work requests.

namespace flexins::protocol {

struct AllocateMwRequest {
  static constexpr MessageType kType = MessageType::kAllocateMw;
  MessageHeader header;
  uint32_t pd;
  uint8_t type;  ///< base::MwType
  uint8_t reserved[3];
};
struct AllocateMwReply {
  MessageHeader header;
  uint32_t key;  ///< grants nothing yet; its low 8 bits change with each bind
  uint32_t reserved;
};
/// `key`: any that the window had; what it grants ends here.
struct FreeMwRequest {
  static constexpr MessageType kType = MessageType::kFreeMw;
  MessageHeader header;
  uint32_t key;
  uint32_t reserved;
};

}  // namespace flexins::protocol
