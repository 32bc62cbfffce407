#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

#include "base/ids.h"
#include "base/verbs_types.h"
#include "wire/mad.h"

/// Messages of the communication manager (InfiniBand Architecture Specification volume 1, chapter
/// 12), each 232 bytes in a MAD of class 0x07. Reserved bits are ignored when they come and sent as
/// zeros. Loading alternate paths (LAP, APR) is refused.

namespace flexins::wire {

template <size_t kBytes>
using CmPrivateData = std::array<uint8_t, kBytes>;

inline constexpr size_t kReqPrivateBytes = 92;
inline constexpr size_t kMraPrivateBytes = 222;
inline constexpr size_t kRejPrivateBytes = 148;
inline constexpr size_t kRejInfoBytes = 72;
inline constexpr size_t kRepPrivateBytes = 196;
inline constexpr size_t kRtuPrivateBytes = 224;
inline constexpr size_t kDreqPrivateBytes = 220;
inline constexpr size_t kDrepPrivateBytes = 224;
inline constexpr size_t kSidrReqPrivateBytes = 216;
inline constexpr size_t kSidrRepPrivateBytes = 136;
inline constexpr size_t kSidrRepInfoBytes = 72;

/// Transport service types of a REQ.
enum class CmTransport : uint8_t { kReliable = 0, kUnreliable = 1, kReliableDatagram = 2 };

/// One path of a REQ, 44 bytes.
struct CmPath {
  uint16_t local_lid = 0;  ///< RoCE has no LIDs: 0xffff
  uint16_t remote_lid = 0;
  base::Gid local_gid{};
  base::Gid remote_gid{};
  uint32_t flow_label = 0;  ///< 20 bits
  uint8_t packet_rate = 0;  ///< 6 bits
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 0;
  uint8_t service_level = 0;
  bool subnet_local = false;
  uint8_t local_ack_timeout = 0;  ///< 4.096 µs · 2^n

  friend bool operator==(const CmPath&, const CmPath&) = default;
};

/// Request for a connection. Times are 4.096 µs · 2^n.
struct CmReq {
  uint32_t local_id = 0;  ///< the sender's communication id
  uint64_t service_id = 0;
  uint64_t local_ca_guid = 0;
  uint32_t local_qkey = 0;
  uint32_t local_qpn = 0;
  uint8_t responder_resources = 0;
  uint32_t local_eecn = 0;
  uint8_t initiator_depth = 0;
  uint32_t remote_eecn = 0;
  uint8_t remote_response_timeout = 0;
  CmTransport transport = CmTransport::kReliable;
  bool flow_control = false;
  /// Where the receiver of this message is to start sending.
  base::Psn starting_psn;
  uint8_t local_response_timeout = 0;
  uint8_t retry_count = 0;
  uint16_t pkey = 0xffff;
  uint8_t path_mtu = 0;  ///< enum ibv_mtu
  bool rdc_exists = false;
  uint8_t rnr_retry_count = 0;
  uint8_t max_cm_retries = 0;
  bool srq = false;
  uint8_t extended_transport = 0;
  CmPath primary;
  CmPath alternate;
  CmPrivateData<kReqPrivateBytes> private_data{};

  friend bool operator==(const CmReq&, const CmReq&) = default;
};

/// Which message a MRA or REJ answers.
enum class CmAnswered : uint8_t { kReq = 0, kRep = 1, kOther = 2, kLap = 3 };

/// Message receipt acknowledged: the answer takes a while.
struct CmMra {
  uint32_t local_id = 0;
  uint32_t remote_id = 0;
  CmAnswered answered = CmAnswered::kReq;
  uint8_t service_timeout = 0;
  CmPrivateData<kMraPrivateBytes> private_data{};

  friend bool operator==(const CmMra&, const CmMra&) = default;
};

/// Why a message was rejected (table 107); those that we send or look at.
enum class CmRejectReason : uint16_t {
  kNoQp = 1,
  kNoResources = 3,
  kTimeout = 4,
  kUnsupported = 5,
  kInvalidCommunicationId = 6,
  kInvalidServiceId = 8,
  kInvalidTransport = 9,
  kStaleConnection = 10,
  kInvalidGid = 12,
  kInvalidMtu = 26,
  kConsumer = 28,
  kDuplicateId = 30,
};

struct CmRej {
  uint32_t local_id = 0;
  uint32_t remote_id = 0;
  CmAnswered answered = CmAnswered::kReq;
  uint8_t info_length = 0;
  CmRejectReason reason = CmRejectReason::kConsumer;
  CmPrivateData<kRejInfoBytes> info{};
  CmPrivateData<kRejPrivateBytes> private_data{};

  friend bool operator==(const CmRej&, const CmRej&) = default;
};

struct CmRep {
  uint32_t local_id = 0;
  uint32_t remote_id = 0;
  uint32_t local_qkey = 0;
  uint32_t local_qpn = 0;
  uint32_t local_eecn = 0;
  base::Psn starting_psn;  ///< as in CmReq
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  uint8_t target_ack_delay = 0;
  uint8_t failover_accepted = 0;
  bool flow_control = false;
  uint8_t rnr_retry_count = 0;
  bool srq = false;
  uint64_t local_ca_guid = 0;
  CmPrivateData<kRepPrivateBytes> private_data{};

  friend bool operator==(const CmRep&, const CmRep&) = default;
};

/// Ready to use.
struct CmRtu {
  uint32_t local_id = 0;
  uint32_t remote_id = 0;
  CmPrivateData<kRtuPrivateBytes> private_data{};

  friend bool operator==(const CmRtu&, const CmRtu&) = default;
};

struct CmDreq {
  uint32_t local_id = 0;
  uint32_t remote_id = 0;
  uint32_t remote_qpn = 0;
  CmPrivateData<kDreqPrivateBytes> private_data{};

  friend bool operator==(const CmDreq&, const CmDreq&) = default;
};

struct CmDrep {
  uint32_t local_id = 0;
  uint32_t remote_id = 0;
  CmPrivateData<kDrepPrivateBytes> private_data{};

  friend bool operator==(const CmDrep&, const CmDrep&) = default;
};

/// Service id resolution: which datagram QP serves `service_id`?
struct CmSidrReq {
  uint32_t request_id = 0;
  uint16_t pkey = 0xffff;
  uint64_t service_id = 0;
  CmPrivateData<kSidrReqPrivateBytes> private_data{};

  friend bool operator==(const CmSidrReq&, const CmSidrReq&) = default;
};

enum class CmSidrStatus : uint8_t {
  kSuccess = 0,
  kUnsupported = 1,
  kReject = 2,
  kNoQp = 3,
  kRedirect = 4,
  kUnsupportedVersion = 5,
};

struct CmSidrRep {
  uint32_t request_id = 0;
  CmSidrStatus status = CmSidrStatus::kSuccess;
  uint8_t info_length = 0;
  uint32_t qpn = 0;
  uint64_t service_id = 0;
  uint32_t qkey = 0;
  CmPrivateData<kSidrRepInfoBytes> info{};
  CmPrivateData<kSidrRepPrivateBytes> private_data{};

  friend bool operator==(const CmSidrRep&, const CmSidrRep&) = default;
};

using CmBody =
    std::variant<CmReq, CmMra, CmRej, CmRep, CmRtu, CmDreq, CmDrep, CmSidrReq, CmSidrRep>;

struct CmMessage {
  uint64_t transaction = 0;
  CmBody body;

  friend bool operator==(const CmMessage&, const CmMessage&) = default;
};

enum class CmParseError : uint8_t {
  kNone,
  kWrongSize,      ///< not 256 bytes
  kBadVersion,     ///< of the base or the class
  kOtherClass,     ///< not the communication manager's
  kBadMethod,      ///< not Send
  kUnsupported,    ///< LAP, APR, ClassPortInfo
  kUnknownMessage  ///< no such attribute
};
[[nodiscard]] std::string_view to_string(CmParseError error);

/// Reads `mad`, a whole management datagram. On failure `out` holds anything.
[[nodiscard]] CmParseError parse_cm(std::span<const std::byte> mad, CmMessage& out) noexcept;

/// Writes `message` as a whole management datagram.
void emit_cm(const CmMessage& message, std::span<std::byte, kMadBytes> out) noexcept;

}  // namespace flexins::wire
