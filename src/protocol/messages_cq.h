#pragma once

#include "protocol/messages.h"

/// What a program may do to a completion queue that it has.

namespace flexins::protocol {

/// Another ring in place of the CQ's. Until the reply is there the application neither polls nor
/// arms the CQ; what it had not consumed is in the new ring at the same positions, and so is its
/// wish for an event. EINVAL: more completions are waiting than `wanted`; EIO: the CQ has overrun.
struct ResizeCqRequest {
  static constexpr MessageType kType = MessageType::kResizeCq;
  MessageHeader header;
  uint32_t cq;
  uint32_t depth;   ///< entries of the ring at least, 1 … Limits::kMaxCqe
  uint32_t wanted;  ///< entries that the program asked for, at most `depth`
  uint32_t reserved;
};
/// Descriptor 0: completion ring, pipe::completion_ring_bytes(depth).
struct ResizeCqReply {
  MessageHeader header;
  uint32_t depth;  ///< entries granted, a power of two
  uint32_t reserved;
};

/// From now on an event that the CQ owes waits for `count` completions or `period_us`, whichever
/// comes first; errors do not wait. A period of 0 turns that off.
struct ModifyCqRequest {
  static constexpr MessageType kType = MessageType::kModifyCq;
  MessageHeader header;
  uint32_t cq;
  uint16_t count;
  uint16_t period_us;
};

}  // namespace flexins::protocol
