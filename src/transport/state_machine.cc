#include "transport/state_machine.h"

#include <cerrno>

#include "base/ids.h"

namespace flexins::transport {

using base::QpState;
using base::QpType;

namespace {

/// Attribute masks of one transition for one QP type.
struct Rule {
  QpState from;
  QpState to;
  QpType type;
  uint32_t required;
  uint32_t optional;
};

constexpr uint32_t kConnectedInit = base::kQpPkeyIndex | base::kQpPort | base::kQpAccessFlags;
constexpr uint32_t kDatagramInit = base::kQpPkeyIndex | base::kQpPort | base::kQpQkey;
constexpr uint32_t kConnectedRtr =
    base::kQpAddressVector | base::kQpPathMtu | base::kQpDestQpn | base::kQpRqPsn;
constexpr uint32_t kReliableRtr = kConnectedRtr | base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer;
constexpr uint32_t kConnectedRtrOptional =
    base::kQpAlternatePath | base::kQpAccessFlags | base::kQpPkeyIndex;
constexpr uint32_t kUnreliableRts =
    base::kQpCurrentState | base::kQpAlternatePath | base::kQpAccessFlags | base::kQpPathMigState;
constexpr uint32_t kReliableRts = kUnreliableRts | base::kQpMinRnrTimer;
constexpr uint32_t kDatagramRts = base::kQpCurrentState | base::kQpQkey;
constexpr uint32_t kUnreliableSqd = base::kQpAddressVector | base::kQpAlternatePath |
                                    base::kQpAccessFlags | base::kQpPkeyIndex |
                                    base::kQpPathMigState;
// The two halves of a reliable connection, which XRC has apart.
constexpr uint32_t kInitiatorSqd = kUnreliableSqd | base::kQpPort | base::kQpTimeout |
                                   base::kQpRetryCount | base::kQpRnrRetry | base::kQpMaxRdAtomic;
constexpr uint32_t kTargetSqd = kUnreliableSqd | base::kQpPort | base::kQpTimeout |
                                base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer;
constexpr uint32_t kReliableSqd = kInitiatorSqd | kTargetSqd;
constexpr uint32_t kReliableToRts = base::kQpTimeout | base::kQpRetryCount | base::kQpRnrRetry |
                                    base::kQpSqPsn | base::kQpMaxRdAtomic;

constexpr QpState kReset = QpState::kReset;
constexpr QpState kInit = QpState::kInit;
constexpr QpState kRtr = QpState::kReadyToReceive;
constexpr QpState kRts = QpState::kReadyToSend;
constexpr QpState kSqd = QpState::kSendQueueDrained;
constexpr QpState kSqe = QpState::kSendQueueError;
constexpr QpState kError = QpState::kError;
constexpr QpType kRc = QpType::kReliable;
constexpr QpType kUc = QpType::kUnreliable;
constexpr QpType kUd = QpType::kDatagram;
constexpr QpType kRaw = QpType::kRawPacket;
constexpr QpType kQueue = QpType::kReceiveQueue;
constexpr QpType kIni = QpType::kXrcSend;
constexpr QpType kTgt = QpType::kXrcReceive;

/// Every transition but those to kReset and kError, which need no attributes. Each end of XRC also
/// takes what only the other needs: perftest names the same attributes for both.
constexpr Rule kRules[] = {
    {kReset, kInit, kRc, kConnectedInit, 0},
    {kReset, kInit, kUc, kConnectedInit, 0},
    {kReset, kInit, kUd, kDatagramInit, 0},
    {kInit, kInit, kRc, 0, kConnectedInit},
    {kInit, kInit, kUc, 0, kConnectedInit},
    {kInit, kInit, kUd, 0, kDatagramInit},
    {kInit, kRtr, kRc, kReliableRtr, kConnectedRtrOptional},
    {kInit, kRtr, kUc, kConnectedRtr, kConnectedRtrOptional},
    {kInit, kRtr, kUd, 0, base::kQpPkeyIndex | base::kQpQkey},
    {kRtr, kRts, kRc, kReliableToRts, kReliableRts},
    {kRtr, kRts, kUc, base::kQpSqPsn, kUnreliableRts},
    {kRtr, kRts, kUd, base::kQpSqPsn, kDatagramRts},
    {kRts, kRts, kRc, 0, kReliableRts},
    {kRts, kRts, kUc, 0, kUnreliableRts},
    {kRts, kRts, kUd, 0, kDatagramRts},
    {kRts, kSqd, kRc, 0, base::kQpEnableSqdNotify},
    {kRts, kSqd, kUc, 0, base::kQpEnableSqdNotify},
    {kRts, kSqd, kUd, 0, base::kQpEnableSqdNotify},
    {kSqd, kRts, kRc, 0, kReliableRts},
    {kSqd, kRts, kUc, 0, kUnreliableRts},
    {kSqd, kRts, kUd, 0, kDatagramRts},
    {kSqd, kSqd, kRc, 0, kReliableSqd},
    {kSqd, kSqd, kUc, 0, kUnreliableSqd},
    {kSqd, kSqd, kUd, 0, base::kQpPkeyIndex | base::kQpQkey},
    {kSqe, kRts, kUc, 0, base::kQpCurrentState | base::kQpAccessFlags},
    {kSqe, kRts, kUd, 0, kDatagramRts},
    {kReset, kInit, kIni, kConnectedInit, 0},
    {kReset, kInit, kTgt, kConnectedInit, 0},
    {kInit, kInit, kIni, 0, kConnectedInit},
    {kInit, kInit, kTgt, 0, kConnectedInit},
    {kInit, kRtr, kIni, kConnectedRtr, kReliableRtr | kConnectedRtrOptional},
    {kInit, kRtr, kTgt, kReliableRtr, kConnectedRtrOptional},
    {kRtr, kRts, kIni, kReliableToRts, kUnreliableRts},
    {kRtr, kRts, kTgt, base::kQpTimeout | base::kQpSqPsn, kReliableRts | kReliableToRts},
    {kRts, kRts, kIni, 0, kUnreliableRts},
    {kRts, kRts, kTgt, 0, kReliableRts},
    {kRts, kSqd, kIni, 0, base::kQpEnableSqdNotify},
    {kRts, kSqd, kTgt, 0, base::kQpEnableSqdNotify},
    {kSqd, kRts, kIni, 0, kUnreliableRts},
    {kSqd, kRts, kTgt, 0, kReliableRts},
    {kSqd, kSqd, kIni, 0, kInitiatorSqd},
    {kSqd, kSqd, kTgt, 0, kTargetSqd},
    {kReset, kInit, kRaw, base::kQpPort, 0},
    {kInit, kInit, kRaw, 0, base::kQpPort},
    {kInit, kRtr, kRaw, 0, 0},
    {kRtr, kRts, kRaw, 0, base::kQpCurrentState},
    {kRts, kRts, kRaw, 0, base::kQpCurrentState},
    {kRts, kSqd, kRaw, 0, base::kQpEnableSqdNotify},
    {kSqd, kRts, kRaw, 0, base::kQpCurrentState},
    {kSqe, kRts, kRaw, 0, base::kQpCurrentState},
    {kReset, kRtr, kQueue, 0, 0},
};

bool current_state_nameable(QpState state) {
  return state == kRtr || state == kRts || state == kSqd || state == kSqe;
}

base::Error bad_value(const char* what) {
  return {EINVAL, std::string("queue pair attribute out of range: ") + what};
}

}  // namespace

bool transition_allowed(QpType type, QpState from, QpState to, uint32_t mask) noexcept {
  if ((mask & base::kQpCurrentState) != 0 && !current_state_nameable(from)) return false;
  const uint32_t named = mask & ~uint32_t{base::kQpState};
  if (to == kReset) return named == 0;
  // A QP in reset has no queue that could hold an error.
  if (to == kError) return from != kReset && named == 0;
  for (const Rule& rule : kRules) {
    if (rule.from != from || rule.to != to || rule.type != type) continue;
    return (named & rule.required) == rule.required &&
           (named & ~(rule.required | rule.optional)) == 0;
  }
  return false;
}

base::Result<void> check_values(const base::QpAttributes& a, uint32_t mask) {
  const auto named = [mask](uint32_t bit) { return (mask & bit) != 0; };
  if (named(base::kQpState) && a.state > kError) return bad_value("qp_state");
  if (named(base::kQpPathMtu) && (a.path_mtu < 1 || a.path_mtu > 5)) return bad_value("path_mtu");
  if (named(base::kQpPort) && a.port_number != 1) return bad_value("port_num");
  if (named(base::kQpTimeout) && a.timeout > 31) return bad_value("timeout");
  if (named(base::kQpMinRnrTimer) && a.min_rnr_timer > 31) return bad_value("min_rnr_timer");
  if (named(base::kQpRetryCount) && a.retry_count > 7) return bad_value("retry_cnt");
  if (named(base::kQpRnrRetry) && a.rnr_retry > 7) return bad_value("rnr_retry");
  if (named(base::kQpDestQpn) && a.destination_qpn > base::Psn::kMask) {
    return bad_value("dest_qp_num");
  }
  if (named(base::kQpMaxRdAtomic) && a.max_rd_atomic > base::Limits::kMaxRdAtomic) {
    return bad_value("max_rd_atomic");
  }
  if (named(base::kQpMaxDestRdAtomic) && a.max_dest_rd_atomic > base::Limits::kMaxRdAtomic) {
    return bad_value("max_dest_rd_atomic");
  }
  return {};
}

void merge_attributes(const base::QpAttributes& from, uint32_t mask, base::QpAttributes& to) {
  const auto named = [mask](uint32_t bit) { return (mask & bit) != 0; };
  if (named(base::kQpAccessFlags)) to.access_flags = from.access_flags;
  if (named(base::kQpPkeyIndex)) to.pkey_index = from.pkey_index;
  if (named(base::kQpPort)) to.port_number = from.port_number;
  if (named(base::kQpQkey)) to.qkey = from.qkey;
  if (named(base::kQpAddressVector)) to.address = from.address;
  if (named(base::kQpPathMtu)) to.path_mtu = from.path_mtu;
  if (named(base::kQpTimeout)) to.timeout = from.timeout;
  if (named(base::kQpRetryCount)) to.retry_count = from.retry_count;
  if (named(base::kQpRnrRetry)) to.rnr_retry = from.rnr_retry;
  if (named(base::kQpRqPsn)) to.rq_psn = from.rq_psn & base::Psn::kMask;
  if (named(base::kQpSqPsn)) to.sq_psn = from.sq_psn & base::Psn::kMask;
  if (named(base::kQpMaxRdAtomic)) to.max_rd_atomic = from.max_rd_atomic;
  if (named(base::kQpMaxDestRdAtomic)) to.max_dest_rd_atomic = from.max_dest_rd_atomic;
  if (named(base::kQpMinRnrTimer)) to.min_rnr_timer = from.min_rnr_timer;
  if (named(base::kQpDestQpn)) to.destination_qpn = from.destination_qpn;
}

}  // namespace flexins::transport
