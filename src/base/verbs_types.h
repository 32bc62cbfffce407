#pragma once

#include <array>
#include <cstdint>

/// The vocabulary of verbs, with libibverbs' numbers, for rooms that do not include its headers
/// (the engine runs where no libibverbs is installed). The provider asserts that they are equal.

namespace flexins::base {

/// Completion status; values of `enum ibv_wc_status`.
enum class WcStatus : uint8_t {
  kSuccess = 0,
  kLocalLength = 1,
  kLocalQpOperation = 2,
  kLocalProtection = 4,
  kWrFlush = 5,
  kMwBind = 6,
  kBadResponse = 7,
  kLocalAccess = 8,
  kRemoteInvalidRequest = 9,
  kRemoteAccess = 10,
  kRemoteOperation = 11,
  kRetryExceeded = 12,
  kRnrRetryExceeded = 13,
  kRemoteAbort = 16,
  kFatal = 19,
  kResponseTimeout = 20,
  kGeneral = 21,
};

/// Completion opcode; values of `enum ibv_wc_opcode`.
enum class WcOpcode : uint8_t {
  kSend = 0,
  kRdmaWrite = 1,
  kRdmaRead = 2,
  kCompareSwap = 3,
  kFetchAdd = 4,
  kBindMw = 5,
  kLocalInvalidate = 6,
  kAtomicWrite = 9,
  kReceive = 128,
  kReceiveRdmaWithImmediate = 129,
};

/// Completion flags; values of `enum ibv_wc_flags`.
enum WcFlags : uint32_t {
  kWcGrh = 1 << 0,
  kWcWithImmediate = 1 << 1,
  kWcWithInvalidate = 1 << 3,
};

/// What the service level of a received datagram says over RoCE, where packets carry no service
/// level: which kind of packet it was. Adapters do so (bit 3: RoCEv2, the others: kind of header),
/// and UCX up to 1.17 needs it to know which of the 40 bytes in front are the address.
enum PacketKind : uint8_t {
  kPacketKindIpv6 = 8 | 1,
  kPacketKindIpv4 = 8 | 2,
};

/// Send work request opcode; values of `enum ibv_wr_opcode`.
enum class WrOpcode : uint8_t {
  kRdmaWrite = 0,
  kRdmaWriteWithImmediate = 1,
  kSend = 2,
  kSendWithImmediate = 3,
  kRdmaRead = 4,
  kCompareSwap = 5,
  kFetchAdd = 6,
  kLocalInvalidate = 7,
  kBindMw = 8,
  kSendWithInvalidate = 9,
  kAtomicWrite = 15,
};

/// Send flags; values of `enum ibv_send_flags`.
enum SendFlags : uint8_t {
  kSendFence = 1 << 0,
  kSendSignaled = 1 << 1,
  kSendSolicited = 1 << 2,
  kSendInline = 1 << 3,
};

/// Access flags; values of `enum ibv_access_flags`.
enum AccessFlags : uint32_t {
  kAccessLocalWrite = 1 << 0,
  kAccessRemoteWrite = 1 << 1,
  kAccessRemoteRead = 1 << 2,
  kAccessRemoteAtomic = 1 << 3,
  kAccessMwBind = 1 << 4,
  kAccessZeroBased = 1 << 5,
  kAccessOnDemand = 1 << 6,
  kAccessHuge = 1 << 7,
  kAccessRelaxedOrdering = 1 << 20,
};

/// Queue pair state; values of `enum ibv_qp_state`.
enum class QpState : uint8_t {
  kReset = 0,
  kInit = 1,
  kReadyToReceive = 2,
  kReadyToSend = 3,
  kSendQueueDrained = 4,
  kSendQueueError = 5,
  kError = 6,
};

/// Queue pair type; values of `enum ibv_qp_type`.
enum class QpType : uint8_t {
  kReliable = 2,
  kUnreliable = 3,
  kDatagram = 4,
  kRawPacket = 8,
  kXrcSend = 9,
  kXrcReceive = 10,
  /// Verbs have no number for it: a receive work queue (ibv_wq), which is the receive half of raw
  /// packet QPs.
  kReceiveQueue = 0x80,
};

/// The two ends of an extended reliable connection (IBTA annex A14): an initiator only sends, a
/// target only receives.
[[nodiscard]] constexpr bool is_xrc(QpType type) {
  return type == QpType::kXrcSend || type == QpType::kXrcReceive;
}
/// Its requests are acknowledged.
[[nodiscard]] constexpr bool is_reliable(QpType type) {
  return type == QpType::kReliable || is_xrc(type);
}

/// Memory window type; values of `enum ibv_mw_type`. Type 2 is 2B: usable by the queue pair that
/// bound it (IBTA 10.6.7.2).
enum class MwType : uint8_t { kType1 = 1, kType2 = 2 };

/// Attribute mask; values of `enum ibv_qp_attr_mask`.
enum QpAttributeMask : uint32_t {
  kQpState = 1 << 0,
  kQpCurrentState = 1 << 1,
  kQpEnableSqdNotify = 1 << 2,
  kQpAccessFlags = 1 << 3,
  kQpPkeyIndex = 1 << 4,
  kQpPort = 1 << 5,
  kQpQkey = 1 << 6,
  kQpAddressVector = 1 << 7,
  kQpPathMtu = 1 << 8,
  kQpTimeout = 1 << 9,
  kQpRetryCount = 1 << 10,
  kQpRnrRetry = 1 << 11,
  kQpRqPsn = 1 << 12,
  kQpMaxRdAtomic = 1 << 13,
  kQpAlternatePath = 1 << 14,
  kQpMinRnrTimer = 1 << 15,
  kQpSqPsn = 1 << 16,
  kQpMaxDestRdAtomic = 1 << 17,
  kQpPathMigState = 1 << 18,
  kQpCapabilities = 1 << 19,
  kQpDestQpn = 1 << 20,
  kQpRateLimit = 1 << 25,
};

/// Asynchronous events; values of `enum ibv_event_type`.
enum class AsyncEvent : uint32_t {
  kCqError = 0,
  kQpFatal = 1,
  kQpRequestError = 2,
  kQpAccessError = 3,
  kCommunicationEstablished = 4,
  kSqDrained = 5,
  kDeviceFatal = 8,
  kPortActive = 9,
  kPortError = 10,
  kSrqError = 14,
  kSrqLimitReached = 15,
  kLastWqeReached = 16,
  kGidChange = 18,
  kWqFatal = 19,
};

/// 16 bytes, network order; an IPv4 address is mapped (::ffff:a.b.c.d).
using Gid = std::array<uint8_t, 16>;

/// Where a QP's packets go. Fixed layout: it travels in session messages.
struct AddressVector {
  Gid destination_gid{};
  uint8_t source_gid_index = 0;
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 0;
  uint8_t service_level = 0;
  uint32_t flow_label = 0;
  uint8_t is_global = 0;
  uint8_t static_rate = 0;
  uint8_t port_number = 0;
  uint8_t reserved[5] = {};
};
static_assert(sizeof(AddressVector) == 32);

/// The attributes of a queue pair, as ibv_modify_qp and ibv_query_qp know them. Fixed layout: it
/// travels in session messages.
struct QpAttributes {
  QpState state = QpState::kReset;
  QpState current_state = QpState::kReset;
  uint8_t path_mtu = 0;  ///< enum ibv_mtu: 1 = 256 … 5 = 4096 bytes
  uint8_t port_number = 0;
  uint32_t access_flags = 0;
  uint32_t destination_qpn = 0;
  uint32_t rq_psn = 0;
  uint32_t sq_psn = 0;
  uint32_t qkey = 0;
  uint16_t pkey_index = 0;
  uint8_t max_rd_atomic = 0;
  uint8_t max_dest_rd_atomic = 0;
  uint8_t min_rnr_timer = 0;  ///< code of IBTA table 45 (0 = 655.36 ms … 31 = 491.52 ms)
  uint8_t timeout = 0;        ///< local ACK timeout: 4.096 µs · 2^timeout, 0 = never
  uint8_t retry_count = 0;
  uint8_t rnr_retry = 0;  ///< 7 = for ever
  uint8_t sq_draining = 0;
  uint8_t reserved[7] = {};
  AddressVector address;
};
static_assert(sizeof(QpAttributes) == 72);

/// A scatter/gather element: `length` bytes at virtual address `address` under `key`.
struct Sge {
  uint64_t address = 0;
  uint32_t length = 0;
  uint32_t key = 0;
};
static_assert(sizeof(Sge) == 16);

/// Limits of the device. Reaching one is an error that the caller sees.
struct Limits {
  static constexpr uint32_t kMaxSge = 32;
  static constexpr uint32_t kMaxInlineBytes = 512;
  static constexpr uint32_t kMaxSendWr = 16'384;
  static constexpr uint32_t kMaxReceiveWr = 16'384;
  static constexpr uint32_t kMaxCqe = 1u << 20;
  static constexpr uint32_t kMaxMessageBytes = 1u << 31;
  static constexpr uint32_t kMaxRdAtomic = 128;
  static constexpr uint32_t kMaxQp = 65'536;
  static constexpr uint32_t kMaxCq = 65'536;
  static constexpr uint32_t kMaxMr = 1u << 20;
  static constexpr uint32_t kMaxPd = 65'536;
  static constexpr uint32_t kMaxSrq = 65'536;
  static constexpr uint32_t kMaxSrqWr = 16'384;
  static constexpr uint32_t kMaxXrcd = 65'536;
  static constexpr uint32_t kMaxMw = 65'536;
  static constexpr uint32_t kMaxAh = 65'536;
  static constexpr uint32_t kMaxMulticastGroups = 256;
  static constexpr uint32_t kMaxMulticastQps = 1024;  ///< of one group
  static constexpr uint32_t kMaxCounters = 4096;
  static constexpr uint32_t kMaxSpreadTables = 4096;
  static constexpr uint32_t kMaxSpreadTableSize = 512;  ///< queues, a power of two
};

}  // namespace flexins::base
