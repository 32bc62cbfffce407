#pragma once

#include <cstdint>
#include <type_traits>

#include "base/verbs_types.h"

/// The session between an application (provider) and its engine: a SOCK_SEQPACKET unix socket, one
/// request, one reply, in order. Fixed-size structs in host byte order (both ends are on one
/// machine); descriptors travel as SCM_RIGHTS. This is an ABI: a change raises kProtocolVersion.
///
/// Every message starts with a MessageHeader; `length` is the whole message's size. A reply repeats
/// the request's `type` and `sequence`; `status` is 0 or an errno value, and then the body beyond
/// the header may be missing.

namespace flexins::protocol {

inline constexpr uint32_t kProtocolVersion = 4;
inline constexpr uint32_t kMagic = 0x534e4c46;  // "FLNS"
inline constexpr uint32_t kMaxMessageBytes = 16 * 1024;
/// Descriptors of one message.
inline constexpr uint32_t kMaxDescriptors = 32;
inline constexpr uint32_t kMaxGids = 16;
/// Window segments of one registration; what is not covered by one is reached by descriptor.
inline constexpr uint32_t kMaxSegments = 256;

enum class MessageType : uint16_t {
  kHello = 1,
  kAllocatePd = 2,
  kFreePd = 3,
  kRegisterMr = 4,
  kDeregisterMr = 5,
  kCreateChannel = 6,
  kDestroyChannel = 7,
  kCreateCq = 8,
  kDestroyCq = 9,
  kCreateQp = 10,
  kModifyQp = 11,
  kQueryQp = 12,
  kDestroyQp = 13,
  kQueryPort = 14,
  kCreateSubmissionRing = 15,
  // messages_cq.h
  kResizeCq = 50,
  kModifyCq = 51,
  // messages_memory.h
  kReregisterMr = 52,
  kAllocateNullMr = 53,
  kAllocateDm = 54,
  kFreeDm = 55,
  kRegisterDmMr = 56,
  kImportPd = 57,
  kImportMr = 58,
  kImportDm = 59,
  // messages_qp.h
  kSetQpRate = 60,
  kCreateSrq = 20,
  kModifySrq = 21,
  kQuerySrq = 22,
  kDestroySrq = 23,
  kAllocateMw = 24,
  kFreeMw = 25,
  kCreateAh = 40,
  kDestroyAh = 41,
  kAttachMulticast = 42,
  kDetachMulticast = 43,
  kCreateFlow = 44,
  kDestroyFlow = 45,
  // messages_xrc.h
  kOpenXrcd = 80,
  kCloseXrcd = 81,
  kOpenQp = 82,
  kCloseQp = 83,
  // messages_cm.h
  kCmHello = 70,
  kCmIdentify = 71,
  kCmCommand = 72,
  // messages_spread.h
  kCreateSpreadTable = 90,
  kDestroySpreadTable = 91,
  kCreateSpreadingQp = 92,
  // messages_srq.h
  kResizeSrq = 93,
  // messages_datagram.h
  kCreateCounters = 94,
  kReadCounters = 95,
  kDestroyCounters = 96,
};

struct MessageHeader {
  uint16_t type;    ///< MessageType
  uint16_t status;  ///< replies: errno value, 0 = done
  uint32_t length;  ///< bytes of the whole message
  uint32_t sequence;
  uint32_t reserved;
};
static_assert(sizeof(MessageHeader) == 16);

/// First message of a session. Descriptor 0 of the request (may be missing): the application's
/// /proc/self/mem, opened for reading and writing.
/// EPROTO: not FlexiNS; EPROTONOSUPPORT: another version (the reply says which).
struct HelloRequest {
  static constexpr MessageType kType = MessageType::kHello;
  MessageHeader header;
  uint32_t magic;
  uint32_t protocol_version;
  uint32_t pipe_version;
  uint32_t reserved;
  char program[64];  ///< for `flexins status`, NUL-terminated
};

struct GidEntry {
  base::Gid gid;
  char interface[16];  ///< network interface of the address, NUL-terminated
};

struct PortState {
  uint32_t active_mtu_bytes;  ///< 256 … 4096
  uint32_t max_mtu_bytes;
  uint8_t active;  ///< 1: link is up
  uint8_t reserved[3];
  uint32_t gid_count;
  GidEntry gids[kMaxGids];
};

/// Descriptors: 0 wake page (memfd, sizeof(pipe::WakePage) rounded to a page), 1 wake eventfd
/// (write), 2 async events (read end of a pipe; 16-byte records as `struct
/// ib_uverbs_async_event_desc` has them: u64 element cookie, u32 event type, u32 0),
/// 3 submission ring 0 (memfd, pipe::submission_ring_bytes()).
struct HelloReply {
  MessageHeader header;
  uint32_t protocol_version;
  uint32_t pipe_version;
  uint32_t context;  ///< id of the context, for messages to people
  uint32_t engine_pid;
  uint64_t node_guid;
  uint64_t engine_incarnation;  ///< random; another one means that the engine was restarted
  PortState port;
};

struct EmptyReply {
  MessageHeader header;
};

/// Answer to the destruction of what has events: those that the program has read from its event
/// descriptors. Those that it has not read are no longer there. It is to acknowledge all it has
/// read before the memory that they name is given away.
struct DestroyReply {
  MessageHeader header;
  uint32_t completion_events;
  uint32_t async_events;
};
static_assert(sizeof(DestroyReply) == 24);

struct AllocatePdRequest {
  static constexpr MessageType kType = MessageType::kAllocatePd;
  MessageHeader header;
};
struct AllocatePdReply {
  MessageHeader header;
  uint32_t pd;
  uint32_t reserved;
};
/// EBUSY: regions or QPs still use it.
struct FreePdRequest {
  static constexpr MessageType kType = MessageType::kFreePd;
  MessageHeader header;
  uint32_t pd;
  uint32_t reserved;
};

/// `length` bytes of application memory at `address` are `offset` bytes into the object behind
/// descriptor number `descriptor` of this message.
struct WindowSegment {
  uint64_t address;  ///< page-aligned application virtual address
  uint64_t length;   ///< multiple of the page size
  uint64_t offset;   ///< into the object, page-aligned
  uint32_t descriptor;
  uint8_t kind;      ///< memory::WindowKind::kShared or kAdopted
  uint8_t writable;  ///< the application's mapping is
  uint8_t sealed;    ///< claimed; the engine checks F_GET_SEALS itself
  uint8_t reserved;
};
static_assert(sizeof(WindowSegment) == 32);

/// Registers [window_base, window_base + length) of the application. Segments are disjoint and
/// sorted; what none covers is reached through /proc/self/mem (EOPNOTSUPP if Hello brought none).
/// A registration with more segments than fit keeps the longest. Variable length: only
/// `segment_count` segments are sent.
struct RegisterMrRequest {
  static constexpr MessageType kType = MessageType::kRegisterMr;
  MessageHeader header;
  uint64_t iova;         ///< first address as work requests will name it
  uint64_t window_base;  ///< application virtual address
  uint64_t length;       ///< bytes
  uint32_t pd;
  uint32_t access;  ///< base::AccessFlags
  uint32_t segment_count;
  uint32_t reserved;
  WindowSegment segments[kMaxSegments];
};
struct RegisterMrReply {
  MessageHeader header;
  uint32_t key;
  uint8_t window_kind;  ///< memory::WindowKind of most of it
  uint8_t reserved[3];
};
/// When the reply is there, the engine touches the memory no more.
struct DeregisterMrRequest {
  static constexpr MessageType kType = MessageType::kDeregisterMr;
  MessageHeader header;
  uint32_t key;
  uint32_t reserved;
};

struct CreateChannelRequest {
  static constexpr MessageType kType = MessageType::kCreateChannel;
  MessageHeader header;
};
/// Descriptor 0: read end of a pipe; 8-byte records, each the cookie of a CQ (as `struct
/// ib_uverbs_comp_event_desc` has it).
struct CreateChannelReply {
  MessageHeader header;
  uint32_t channel;
  uint32_t reserved;
};
struct DestroyChannelRequest {
  static constexpr MessageType kType = MessageType::kDestroyChannel;
  MessageHeader header;
  uint32_t channel;
  uint32_t reserved;
};

struct CreateCqRequest {
  static constexpr MessageType kType = MessageType::kCreateCq;
  MessageHeader header;
  uint64_t cookie;          ///< comes back in events: the application's struct ibv_cq *
  uint32_t depth;           ///< entries wanted, 1 … Limits::kMaxCqe
  uint32_t channel;         ///< 0: none
  uint32_t ignore_overrun;  ///< 1: completions that find no room are lost, and nothing fails
  uint32_t reserved;
};
/// Descriptor 0: completion ring, pipe::completion_ring_bytes(depth).
struct CreateCqReply {
  MessageHeader header;
  uint32_t cq;
  uint32_t depth;  ///< entries granted, a power of two
};
/// EBUSY: QPs still use it. Answered by DestroyReply.
struct DestroyCqRequest {
  static constexpr MessageType kType = MessageType::kDestroyCq;
  MessageHeader header;
  uint32_t cq;
  uint32_t reserved;
};

/// A further submission ring; ENOSPC at pipe::kMaxSubmissionRings. Descriptor 0 of the reply: it.
struct CreateSubmissionRingRequest {
  static constexpr MessageType kType = MessageType::kCreateSubmissionRing;
  MessageHeader header;
};
struct CreateSubmissionRingReply {
  MessageHeader header;
  uint32_t ring;
  uint32_t reserved;
};

struct CreateQpRequest {
  static constexpr MessageType kType = MessageType::kCreateQp;
  MessageHeader header;
  uint64_t cookie;  ///< comes back in async events: the application's struct ibv_qp *
  uint32_t pd;
  uint32_t send_cq;
  uint32_t receive_cq;
  uint32_t submission_ring;  ///< the only ring whose entries may name this QP
  uint32_t max_send_wr;
  uint32_t max_receive_wr;
  uint32_t max_send_sge;
  uint32_t max_receive_sge;
  uint32_t max_inline_bytes;
  uint8_t type;  ///< base::QpType; of kReceiveQueue the states are kReset, kReadyToReceive, kError
  uint8_t signal_all;
  uint8_t reserved[2];
  uint32_t srq;   ///< number of the SRQ that receives come from; 0: the QP has a ring of its own
  uint32_t xrcd;  ///< XRC targets, which have no PD, CQs and submission ring
};
/// Descriptor 0: receive ring, pipe::receive_ring_bytes(receive_depth, max_receive_sge); none where
/// there is an SRQ, or for XRC.
struct CreateQpReply {
  MessageHeader header;
  uint32_t qpn;
  uint32_t receive_depth;  ///< entries of the receive ring, a power of two
  uint32_t generation;     ///< first CompletionEntry::generation of this QP
  uint32_t reserved;
};
struct ModifyQpRequest {
  static constexpr MessageType kType = MessageType::kModifyQp;
  MessageHeader header;
  uint32_t qpn;
  uint32_t mask;  ///< base::QpAttributeMask
  base::QpAttributes attributes;
};
/// A move to kReset begins a new generation: completions of older ones are to be ignored, the
/// receive ring starts at position 0 again on both sides.
struct ModifyQpReply {
  MessageHeader header;
  uint32_t state;  ///< base::QpState after the call
  uint32_t generation;
};
struct QueryQpRequest {
  static constexpr MessageType kType = MessageType::kQueryQp;
  MessageHeader header;
  uint32_t qpn;
  uint32_t reserved;
};
struct QueryQpReply {
  MessageHeader header;
  base::QpAttributes attributes;
};
/// Answered by DestroyReply.
struct DestroyQpRequest {
  static constexpr MessageType kType = MessageType::kDestroyQp;
  MessageHeader header;
  uint32_t qpn;
  uint32_t reserved;
};

struct QueryPortRequest {
  static constexpr MessageType kType = MessageType::kQueryPort;
  MessageHeader header;
};
struct QueryPortReply {
  MessageHeader header;
  PortState port;
};

static_assert(sizeof(RegisterMrRequest) <= kMaxMessageBytes);
static_assert(std::is_trivially_copyable_v<RegisterMrRequest>);
static_assert(std::is_trivially_copyable_v<HelloReply>);

}  // namespace flexins::protocol
