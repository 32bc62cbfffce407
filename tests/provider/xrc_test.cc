#include "provider/xrc.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>

#include "base/unique_fd.h"
#include "device_fixture.h"
#include "provider/qp.h"
#include "provider/srq.h"

// Extended reliable connections. What libibverbs only wires up in devices that it opened itself is
// called directly.

namespace flexins::provider {
namespace {

class Xrc : public OpenDevice {
 protected:
  void SetUp() override {
    OpenDevice::SetUp();
    xrcd = open(-1, O_CREAT);
    ASSERT_NE(xrcd, nullptr);
    ibv_srq_init_attr_ex wanted = xrc_srq();
    srq = create_srq_ex(context, &wanted);
    ASSERT_NE(srq, nullptr);
    target = create_target();
    ASSERT_NE(target, nullptr);
  }
  void TearDown() override {
    if (target != nullptr) {
      EXPECT_EQ(ibv_destroy_qp(target), 0);
    }
    for (ibv_qp* qp : qps) EXPECT_EQ(ibv_destroy_qp(qp), 0);
    qps.clear();
    EXPECT_EQ(ibv_destroy_srq(srq), 0);
    EXPECT_EQ(close_xrcd(xrcd), 0);
    OpenDevice::TearDown();
  }
  ibv_xrcd* open(int fd, int oflags,
                 uint32_t mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS) {
    ibv_xrcd_init_attr wanted{mask, fd, oflags};
    return open_xrcd(context, &wanted);
  }
  ibv_srq_init_attr_ex xrc_srq() {
    ibv_srq_init_attr_ex wanted{};
    wanted.attr.max_wr = 4;
    wanted.attr.max_sge = 1;
    wanted.srq_type = IBV_SRQT_XRC;
    wanted.pd = pd;
    wanted.cq = cq;
    wanted.xrcd = xrcd;
    wanted.comp_mask = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_CQ |
                       IBV_SRQ_INIT_ATTR_XRCD;
    return wanted;
  }
  ibv_qp* create_target() {
    ibv_qp_init_attr_ex wanted{};
    wanted.qp_type = IBV_QPT_XRC_RECV;
    wanted.comp_mask = IBV_QP_INIT_ATTR_XRCD;
    wanted.xrcd = xrcd;
    return create_qp_ex(context, &wanted);
  }
  ibv_qp* create_initiator(uint64_t send_ops = 0) {
    auto wanted = attributes_on(cq, pd);
    wanted.qp_type = IBV_QPT_XRC_SEND;
    wanted.recv_cq = nullptr;
    wanted.send_ops_flags = send_ops;
    if (send_ops != 0) wanted.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    ibv_qp* qp = create_qp_ex(context, &wanted);
    if (qp != nullptr) {
      qps.push_back(qp);
      connect(qp, target->qp_num);
    }
    return qp;
  }
  uint32_t srqn() {
    uint32_t number = 0;
    EXPECT_EQ(get_srq_number(srq, &number), 0);
    return number;
  }
  void post_receive(uint64_t wr_id) {
    ibv_sge sge{reinterpret_cast<uint64_t>(to), sizeof to, 1};
    ibv_recv_wr wr{};
    wr.wr_id = wr_id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    ASSERT_EQ(post_srq_receive(srq, &wr, &bad), 0);
  }

  ibv_xrcd* xrcd = nullptr;
  ibv_srq* srq = nullptr;
  ibv_qp* target = nullptr;
  char from[64] = "by way of the domain";
  char to[64] = {};
};

TEST_F(Xrc, ADomainIsOpenedAsLinuxHasIt) {
  errno = 0;
  EXPECT_EQ(open(-1, O_CREAT, IBV_XRCD_INIT_ATTR_FD), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(open(-1, O_CREAT, IBV_XRCD_INIT_ATTR_RESERVED), nullptr);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_EQ(open(12345, O_CREAT), nullptr);
  EXPECT_EQ(errno, EBADF);
  const base::UniqueFd file(::memfd_create("domain", MFD_CLOEXEC));
  ibv_xrcd* other = open(file.get(), O_CREAT | O_EXCL);
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(engine->xrcd_flags, O_CREAT | O_EXCL);
  EXPECT_EQ(close_xrcd(other), 0);
  engine->refuse_with = EBUSY;
  EXPECT_EQ(close_xrcd(xrcd), EBUSY);
  engine->refuse_with = 0;
}

TEST_F(Xrc, AnSrqHasADomainAndACompletionQueue) {
  for (const uint32_t missing :
       {IBV_SRQ_INIT_ATTR_PD, IBV_SRQ_INIT_ATTR_CQ, IBV_SRQ_INIT_ATTR_XRCD}) {
    ibv_srq_init_attr_ex wanted = xrc_srq();
    wanted.comp_mask &= ~missing;
    EXPECT_EQ(create_srq_ex(context, &wanted), nullptr);
    EXPECT_EQ(errno, EINVAL);
  }
  ibv_srq_init_attr_ex wanted = xrc_srq();
  wanted.srq_type = IBV_SRQT_TM;
  EXPECT_EQ(create_srq_ex(context, &wanted), nullptr);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST_F(Xrc, AReceiveMayBeOfATargetThatIsNotOurs) {
  ibv_qp* qp = create_initiator();
  ASSERT_NE(qp, nullptr);
  post_receive(31);
  ibv_sge sge{reinterpret_cast<uint64_t>(from), sizeof from, 1};
  ibv_send_wr wr{};
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.opcode = IBV_WR_SEND;
  wr.qp_type.xrc.remote_srqn = srqn();
  ibv_send_wr* bad = nullptr;
  ASSERT_EQ(ibv_post_send(qp, &wr, &bad), 0);
  const auto done = poll(1);
  EXPECT_EQ(done[0].wr_id, 31u);
  EXPECT_EQ(done[0].qp_num, 0xabcdefu);
  EXPECT_STREQ(to, from);
}

TEST_F(Xrc, TheExtendedWayNamesTheSrqToo) {
  ibv_qp* qp = create_initiator(IBV_QP_EX_WITH_SEND);
  ASSERT_NE(qp, nullptr);
  post_receive(32);
  ibv_qp_ex* ex = &Qp::of(qp).face.qp_ex;
  ibv_wr_start(ex);
  ibv_wr_send(ex);
  ibv_wr_set_xrc_srqn(ex, srqn());
  ibv_wr_set_sge(ex, 1, reinterpret_cast<uint64_t>(from), sizeof from);
  ASSERT_EQ(ibv_wr_complete(ex), 0);
  EXPECT_EQ(poll(1)[0].wr_id, 32u);
  EXPECT_STREQ(to, from);
}

TEST_F(Xrc, EachEndHasOneSide) {
  ibv_qp* qp = create_initiator();
  ASSERT_NE(qp, nullptr);
  EXPECT_EQ(OpenDevice::post_receive(qp, 1, to, sizeof to), EINVAL);
  connect(target, qp->qp_num);
  EXPECT_EQ(OpenDevice::post_receive(target, 1, to, sizeof to), EINVAL);
  EXPECT_EQ(post_write(target, 1, from, to, 8), EINVAL);
}

TEST_F(Xrc, ATargetIsClosedOnceForEachOpener) {
  ibv_qp_open_attr wanted{};
  wanted.comp_mask = IBV_QP_OPEN_ATTR_NUM | IBV_QP_OPEN_ATTR_XRCD | IBV_QP_OPEN_ATTR_TYPE;
  wanted.qp_num = target->qp_num;
  wanted.xrcd = xrcd;
  wanted.qp_type = IBV_QPT_XRC_RECV;
  ibv_qp* again = open_qp(context, &wanted);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->qp_num, target->qp_num);
  EXPECT_EQ(engine->targets_opened, 1);
  EXPECT_EQ(ibv_destroy_qp(again), 0);
  EXPECT_EQ(engine->targets_closed, 1);
  wanted.qp_type = IBV_QPT_RC;
  EXPECT_EQ(open_qp(context, &wanted), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(Xrc, ADeadEngineFlushesWhatTheInitiatorHas) {
  ibv_qp* qp = create_initiator();
  ASSERT_NE(qp, nullptr);
  engine->pause(true);
  ASSERT_EQ(post_write(qp, 77, from, to, 8), 0);
  post_receive(1);
  engine->kill();
  wait_for_death();
  const auto done = poll(1);
  EXPECT_EQ(done[0].wr_id, 77u);
  EXPECT_EQ(done[0].status, IBV_WC_WR_FLUSH_ERR);
}

}  // namespace
}  // namespace flexins::provider
