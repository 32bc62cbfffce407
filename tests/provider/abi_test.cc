#include <gtest/gtest.h>
#include <infiniband/verbs.h>

#include "base/verbs_types.h"
#include "provider/abi.h"

// The engine knows verbs by numbers of its own header; here they are held against libibverbs'.

namespace flexins::provider {
namespace {

template <typename Ours, typename Theirs>
constexpr bool same(Ours ours, Theirs theirs) {
  return static_cast<uint64_t>(ours) == static_cast<uint64_t>(theirs);
}

using namespace base;

static_assert(same(WcStatus::kSuccess, IBV_WC_SUCCESS));
static_assert(same(WcStatus::kLocalLength, IBV_WC_LOC_LEN_ERR));
static_assert(same(WcStatus::kLocalQpOperation, IBV_WC_LOC_QP_OP_ERR));
static_assert(same(WcStatus::kLocalProtection, IBV_WC_LOC_PROT_ERR));
static_assert(same(WcStatus::kWrFlush, IBV_WC_WR_FLUSH_ERR));
static_assert(same(WcStatus::kMwBind, IBV_WC_MW_BIND_ERR));
static_assert(same(WcStatus::kBadResponse, IBV_WC_BAD_RESP_ERR));
static_assert(same(WcStatus::kLocalAccess, IBV_WC_LOC_ACCESS_ERR));
static_assert(same(WcStatus::kRemoteInvalidRequest, IBV_WC_REM_INV_REQ_ERR));
static_assert(same(WcStatus::kRemoteAccess, IBV_WC_REM_ACCESS_ERR));
static_assert(same(WcStatus::kRemoteOperation, IBV_WC_REM_OP_ERR));
static_assert(same(WcStatus::kRetryExceeded, IBV_WC_RETRY_EXC_ERR));
static_assert(same(WcStatus::kRnrRetryExceeded, IBV_WC_RNR_RETRY_EXC_ERR));
static_assert(same(WcStatus::kRemoteAbort, IBV_WC_REM_ABORT_ERR));
static_assert(same(WcStatus::kFatal, IBV_WC_FATAL_ERR));
static_assert(same(WcStatus::kResponseTimeout, IBV_WC_RESP_TIMEOUT_ERR));
static_assert(same(WcStatus::kGeneral, IBV_WC_GENERAL_ERR));

static_assert(same(WcOpcode::kSend, IBV_WC_SEND));
static_assert(same(WcOpcode::kRdmaWrite, IBV_WC_RDMA_WRITE));
static_assert(same(WcOpcode::kRdmaRead, IBV_WC_RDMA_READ));
static_assert(same(WcOpcode::kCompareSwap, IBV_WC_COMP_SWAP));
static_assert(same(WcOpcode::kFetchAdd, IBV_WC_FETCH_ADD));
static_assert(same(WcOpcode::kBindMw, IBV_WC_BIND_MW));
static_assert(same(WcOpcode::kLocalInvalidate, IBV_WC_LOCAL_INV));
static_assert(same(WcOpcode::kAtomicWrite, IBV_WC_ATOMIC_WRITE));
static_assert(same(WcOpcode::kReceive, IBV_WC_RECV));
static_assert(same(WcOpcode::kReceiveRdmaWithImmediate, IBV_WC_RECV_RDMA_WITH_IMM));

static_assert(same(kWcGrh, IBV_WC_GRH));
static_assert(same(kWcWithImmediate, IBV_WC_WITH_IMM));
static_assert(same(kWcWithInvalidate, IBV_WC_WITH_INV));

static_assert(same(WrOpcode::kRdmaWrite, IBV_WR_RDMA_WRITE));
static_assert(same(WrOpcode::kRdmaWriteWithImmediate, IBV_WR_RDMA_WRITE_WITH_IMM));
static_assert(same(WrOpcode::kSend, IBV_WR_SEND));
static_assert(same(WrOpcode::kSendWithImmediate, IBV_WR_SEND_WITH_IMM));
static_assert(same(WrOpcode::kRdmaRead, IBV_WR_RDMA_READ));
static_assert(same(WrOpcode::kCompareSwap, IBV_WR_ATOMIC_CMP_AND_SWP));
static_assert(same(WrOpcode::kFetchAdd, IBV_WR_ATOMIC_FETCH_AND_ADD));
static_assert(same(WrOpcode::kLocalInvalidate, IBV_WR_LOCAL_INV));
static_assert(same(WrOpcode::kBindMw, IBV_WR_BIND_MW));
static_assert(same(WrOpcode::kSendWithInvalidate, IBV_WR_SEND_WITH_INV));
static_assert(same(WrOpcode::kAtomicWrite, IBV_WR_ATOMIC_WRITE));

static_assert(same(kSendFence, IBV_SEND_FENCE));
static_assert(same(kSendSignaled, IBV_SEND_SIGNALED));
static_assert(same(kSendSolicited, IBV_SEND_SOLICITED));
static_assert(same(kSendInline, IBV_SEND_INLINE));

static_assert(same(kAccessLocalWrite, IBV_ACCESS_LOCAL_WRITE));
static_assert(same(kAccessRemoteWrite, IBV_ACCESS_REMOTE_WRITE));
static_assert(same(kAccessRemoteRead, IBV_ACCESS_REMOTE_READ));
static_assert(same(kAccessRemoteAtomic, IBV_ACCESS_REMOTE_ATOMIC));
static_assert(same(kAccessMwBind, IBV_ACCESS_MW_BIND));
static_assert(same(kAccessZeroBased, IBV_ACCESS_ZERO_BASED));
static_assert(same(kAccessOnDemand, IBV_ACCESS_ON_DEMAND));
static_assert(same(kAccessHuge, IBV_ACCESS_HUGETLB));
static_assert(same(kAccessRelaxedOrdering, IBV_ACCESS_RELAXED_ORDERING));

static_assert(same(QpState::kReset, IBV_QPS_RESET));
static_assert(same(QpState::kInit, IBV_QPS_INIT));
static_assert(same(QpState::kReadyToReceive, IBV_QPS_RTR));
static_assert(same(QpState::kReadyToSend, IBV_QPS_RTS));
static_assert(same(QpState::kSendQueueDrained, IBV_QPS_SQD));
static_assert(same(QpState::kSendQueueError, IBV_QPS_SQE));
static_assert(same(QpState::kError, IBV_QPS_ERR));

static_assert(same(QpType::kReliable, IBV_QPT_RC));
static_assert(same(QpType::kUnreliable, IBV_QPT_UC));
static_assert(same(QpType::kDatagram, IBV_QPT_UD));
static_assert(same(QpType::kXrcSend, IBV_QPT_XRC_SEND));
static_assert(same(QpType::kXrcReceive, IBV_QPT_XRC_RECV));

static_assert(same(MwType::kType1, IBV_MW_TYPE_1));
static_assert(same(MwType::kType2, IBV_MW_TYPE_2));

static_assert(same(kQpState, IBV_QP_STATE));
static_assert(same(kQpCurrentState, IBV_QP_CUR_STATE));
static_assert(same(kQpEnableSqdNotify, IBV_QP_EN_SQD_ASYNC_NOTIFY));
static_assert(same(kQpAccessFlags, IBV_QP_ACCESS_FLAGS));
static_assert(same(kQpPkeyIndex, IBV_QP_PKEY_INDEX));
static_assert(same(kQpPort, IBV_QP_PORT));
static_assert(same(kQpQkey, IBV_QP_QKEY));
static_assert(same(kQpAddressVector, IBV_QP_AV));
static_assert(same(kQpPathMtu, IBV_QP_PATH_MTU));
static_assert(same(kQpTimeout, IBV_QP_TIMEOUT));
static_assert(same(kQpRetryCount, IBV_QP_RETRY_CNT));
static_assert(same(kQpRnrRetry, IBV_QP_RNR_RETRY));
static_assert(same(kQpRqPsn, IBV_QP_RQ_PSN));
static_assert(same(kQpMaxRdAtomic, IBV_QP_MAX_QP_RD_ATOMIC));
static_assert(same(kQpAlternatePath, IBV_QP_ALT_PATH));
static_assert(same(kQpMinRnrTimer, IBV_QP_MIN_RNR_TIMER));
static_assert(same(kQpSqPsn, IBV_QP_SQ_PSN));
static_assert(same(kQpMaxDestRdAtomic, IBV_QP_MAX_DEST_RD_ATOMIC));
static_assert(same(kQpPathMigState, IBV_QP_PATH_MIG_STATE));
static_assert(same(kQpCapabilities, IBV_QP_CAP));
static_assert(same(kQpDestQpn, IBV_QP_DEST_QPN));
static_assert(same(kQpRateLimit, IBV_QP_RATE_LIMIT));

static_assert(same(AsyncEvent::kCqError, IBV_EVENT_CQ_ERR));
static_assert(same(AsyncEvent::kQpFatal, IBV_EVENT_QP_FATAL));
static_assert(same(AsyncEvent::kQpRequestError, IBV_EVENT_QP_REQ_ERR));
static_assert(same(AsyncEvent::kQpAccessError, IBV_EVENT_QP_ACCESS_ERR));
static_assert(same(AsyncEvent::kCommunicationEstablished, IBV_EVENT_COMM_EST));
static_assert(same(AsyncEvent::kSqDrained, IBV_EVENT_SQ_DRAINED));
static_assert(same(AsyncEvent::kDeviceFatal, IBV_EVENT_DEVICE_FATAL));
static_assert(same(AsyncEvent::kPortActive, IBV_EVENT_PORT_ACTIVE));
static_assert(same(AsyncEvent::kPortError, IBV_EVENT_PORT_ERR));
static_assert(same(AsyncEvent::kSrqError, IBV_EVENT_SRQ_ERR));
static_assert(same(AsyncEvent::kSrqLimitReached, IBV_EVENT_SRQ_LIMIT_REACHED));
static_assert(same(AsyncEvent::kLastWqeReached, IBV_EVENT_QP_LAST_WQE_REACHED));
static_assert(same(AsyncEvent::kGidChange, IBV_EVENT_GID_CHANGE));

TEST(Abi, SgesAreLaidOutAsLibibverbsHasThem) {
  static_assert(sizeof(Sge) == sizeof(ibv_sge));
  EXPECT_EQ(offsetof(Sge, address), offsetof(ibv_sge, addr));
  EXPECT_EQ(offsetof(Sge, length), offsetof(ibv_sge, length));
  EXPECT_EQ(offsetof(Sge, key), offsetof(ibv_sge, lkey));
}

}  // namespace
}  // namespace flexins::provider
