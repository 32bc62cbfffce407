#pragma once

#include "protocol/messages.h"

/// Extended reliable connections: domains, and targets that several programs share.

namespace flexins::protocol {

/// Descriptor 0, which may be missing: the file that the domain is shared through; without it
/// nobody else can open the domain. EAGAIN: no domain is open through the file, and `create` is
/// not set; EINVAL: one is, and `exclusive` is set.
struct OpenXrcdRequest {
  static constexpr MessageType kType = MessageType::kOpenXrcd;
  MessageHeader header;
  uint8_t create;     ///< O_CREAT
  uint8_t exclusive;  ///< O_EXCL
  uint8_t reserved[6];
};
struct OpenXrcdReply {
  MessageHeader header;
  uint32_t xrcd;  ///< this opener's handle
  uint32_t reserved;
};
/// EBUSY: SRQs or targets use it through this handle.
struct CloseXrcdRequest {
  static constexpr MessageType kType = MessageType::kCloseXrcd;
  MessageHeader header;
  uint32_t xrcd;
  uint32_t reserved;
};

/// A further user of a target that is in the domain. EINVAL: there is no such target.
struct OpenQpRequest {
  static constexpr MessageType kType = MessageType::kOpenQp;
  MessageHeader header;
  uint64_t cookie;  ///< comes back in async events: the application's struct ibv_qp *
  uint32_t xrcd;
  uint32_t qpn;
};
/// Takes back OpenQp, or CreateQp of a target. With the last of them the target is destroyed.
/// Answered by DestroyReply.
struct CloseQpRequest {
  static constexpr MessageType kType = MessageType::kCloseQp;
  MessageHeader header;
  uint64_t cookie;
  uint32_t qpn;
  uint32_t reserved;
};

}  // namespace flexins::protocol
