#pragma once

#include <cstdint>

#include "protocol/messages.h"

/// What the preload library forwards to the engine of what a program writes to
/// /dev/infiniband/rdma_cm. The program's descriptor is itself a SOCK_SEQPACKET connection to the
/// engine's cm socket (runtime_dir.h), so that it can be duplicated, inherited, polled and closed.
/// Two things travel on it:
///
/// - to the engine: requests. Each brings one descriptor, the end of a socket pair to which the one
///   reply goes. So requests of many threads and processes do not get into each other's way;
/// - from the engine: one byte for each event that waits for RDMA_USER_CM_CMD_GET_EVENT. The
///   descriptor is readable exactly while there are some. Who takes a byte asks for an event then.

namespace flexins::protocol {

/// Largest command and response of <rdma/rdma_user_cm.h>, and room.
inline constexpr uint32_t kCmBytesMax = 1024;

/// First request on a descriptor. EPROTO, EPROTONOSUPPORT as for HelloRequest.
struct CmHelloRequest {
  static constexpr MessageType kType = MessageType::kCmHello;
  MessageHeader header;
  uint32_t magic;
  uint32_t protocol_version;
};
/// `secret` names this channel to the engine; CmCommandRequest::other brings it back.
struct CmHelloReply {
  MessageHeader header;
  uint64_t secret;
};

/// Asks for the secret of a channel that is open already.
struct CmIdentifyRequest {
  static constexpr MessageType kType = MessageType::kCmIdentify;
  MessageHeader header;
};

/// A command as the program wrote it: structs of <rdma/rdma_user_cm.h>, their response pointers
/// meaningless. Variable length: `input_bytes` of `input` are sent.
struct CmCommandRequest {
  static constexpr MessageType kType = MessageType::kCmCommand;
  MessageHeader header;
  uint32_t command;  ///< RDMA_USER_CM_CMD_…
  uint32_t input_bytes;
  /// MIGRATE_ID: the secret of the channel that the id comes from.
  uint64_t other;
  /// What follows `struct rdma_ucm_cmd_hdr`; SET_OPTION: the option's value behind it.
  uint8_t input[kCmBytesMax];
};
inline constexpr uint32_t kCmCommandHeadBytes = sizeof(CmCommandRequest) - kCmBytesMax;

/// GET_EVENT: EAGAIN when there is none.
struct CmCommandReply {
  MessageHeader header;
  uint32_t output_bytes;
  /// Events that were waiting and wait no more, besides one of GET_EVENT: as many bytes are to be
  /// taken off the descriptor; MIGRATE_ID: off the descriptor that the id comes from.
  uint32_t withdrawn_events;
  uint8_t output[kCmBytesMax];
};

}  // namespace flexins::protocol
