#include "provider/srq.h"

#include <cerrno>

#include "device_fixture.h"

namespace flexins::provider {
namespace {

class SharedQueue : public OpenDevice {
 protected:
  void SetUp() override {
    OpenDevice::SetUp();
    srq = create(1, 2);
    ASSERT_NE(srq, nullptr);
  }
  void TearDown() override {
    for (ibv_qp* qp : qps) EXPECT_EQ(ibv_destroy_qp(qp), 0);
    qps.clear();
    EXPECT_EQ(ibv_destroy_srq(srq), 0);
    OpenDevice::TearDown();
  }
  ibv_srq* create(uint32_t wr, uint32_t sge) {
    ibv_srq_init_attr wanted{};
    wanted.attr.max_wr = wr;
    wanted.attr.max_sge = sge;
    ibv_srq* made = ibv_create_srq(pd, &wanted);
    granted = wanted.attr;
    return made;
  }
  ibv_qp* create_on_srq() {
    auto wanted = attributes_on(cq, pd);
    wanted.srq = srq;
    ibv_qp* qp = create_qp_like(wanted);
    if (qp != nullptr) connect(qp, qp->qp_num);
    return qp;
  }
  int post(uint64_t wr_id, void* to, uint32_t length) {
    ibv_sge sge{reinterpret_cast<uint64_t>(to), length, 1};
    ibv_recv_wr wr{};
    wr.wr_id = wr_id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    const int error = ibv_post_srq_recv(srq, &wr, &bad);
    EXPECT_EQ(bad, error == 0 ? nullptr : &wr);
    return error;
  }
  static int send(ibv_qp* qp, char* from, uint32_t length, unsigned flags = 0) {
    ibv_sge sge{reinterpret_cast<uint64_t>(from), length, 1};
    ibv_send_wr wr{};
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = IBV_WR_SEND;
    wr.send_flags = flags;
    ibv_send_wr* bad = nullptr;
    return ibv_post_send(qp, &wr, &bad);
  }

  ibv_srq* srq = nullptr;
  ibv_srq_attr granted{};
};

TEST_F(SharedQueue, GrantsRoomForWhatProgramsLeanOn) {
  EXPECT_EQ(granted.max_wr, 16u);
  EXPECT_EQ(granted.max_sge, 2u);
  ibv_srq_attr found{};
  ASSERT_EQ(ibv_query_srq(srq, &found), 0);
  EXPECT_EQ(found.max_wr, 16u);
  EXPECT_EQ(found.max_sge, 2u);
  EXPECT_EQ(found.srq_limit, 0u);
  EXPECT_EQ(create(base::Limits::kMaxSrqWr + 1, 1), nullptr);
  EXPECT_EQ(errno, EINVAL);
  ibv_device_attr limits{};
  ASSERT_EQ(ibv_query_device(context, &limits), 0);
  EXPECT_GT(limits.max_srq, 0);
}

TEST_F(SharedQueue, FeedsSeveralQpsAndGivesPlacesBack) {
  ibv_qp* qp[2] = {create_on_srq(), create_on_srq()};
  char from[8] = "shared", to[8] = {};
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_EQ(post(i, to, sizeof to), 0);
    ASSERT_EQ(send(qp[i % 2], from, sizeof from, IBV_SEND_SIGNALED), 0);
    const auto wc = poll(2);
    ASSERT_EQ(wc[0].wr_id, i);
    ASSERT_EQ(wc[0].qp_num, qp[i % 2]->qp_num);
    ASSERT_STREQ(to, "shared");
  }
}

TEST_F(SharedQueue, SaysWhenItIsFull) {
  create_on_srq();
  engine->pause(true);
  char byte = 0;
  for (uint64_t i = 0; i < 16; ++i) ASSERT_EQ(post(i, &byte, 1), 0);
  EXPECT_EQ(post(16, &byte, 1), ENOMEM);
  engine->pause(false);
  ibv_recv_wr wr{};
  wr.num_sge = 3;
  ibv_recv_wr* bad = nullptr;
  EXPECT_EQ(ibv_post_srq_recv(srq, &wr, &bad), EINVAL);
  EXPECT_EQ(bad, &wr);
}

TEST_F(SharedQueue, TakesTheReceivesOfItsQps) {
  ibv_qp* qp = create_on_srq();
  char byte = 0;
  EXPECT_EQ(post_receive(qp, 1, &byte, 1), EINVAL);
  ibv_qp_attr attributes{};
  ibv_qp_init_attr initial{};
  ASSERT_EQ(ibv_query_qp(qp, &attributes, IBV_QP_STATE, &initial), 0);
  EXPECT_EQ(initial.srq, srq);
  EXPECT_EQ(initial.cap.max_recv_wr, 0u);
  ASSERT_EQ(move(qp, IBV_QPS_RESET), 0);
}

TEST_F(SharedQueue, ReportsItsLimitOnce) {
  ibv_qp* qp = create_on_srq();
  ibv_srq_attr limit{};
  limit.srq_limit = 2;
  ASSERT_EQ(ibv_modify_srq(srq, &limit, IBV_SRQ_LIMIT), 0);
  ibv_srq_attr found{};
  ASSERT_EQ(ibv_query_srq(srq, &found), 0);
  EXPECT_EQ(found.srq_limit, 2u);
  char from = 'x', to = 0;
  for (uint64_t i = 0; i < 2; ++i) ASSERT_EQ(post(i, &to, 1), 0);
  ASSERT_EQ(send(qp, &from, 1), 0);
  poll(1);
  ibv_async_event event{};
  ASSERT_EQ(ibv_get_async_event(context, &event), 0);
  EXPECT_EQ(event.event_type, IBV_EVENT_SRQ_LIMIT_REACHED);
  EXPECT_EQ(event.element.srq, srq);
  ibv_ack_async_event(&event);
  limit.srq_limit = 17;
  EXPECT_EQ(ibv_modify_srq(srq, &limit, IBV_SRQ_LIMIT), EINVAL);
}

TEST_F(SharedQueue, GrowsAndShrinksWithWhatIsPosted) {
  ibv_qp* qp = create_on_srq();
  ibv_device_attr limits{};
  ASSERT_EQ(ibv_query_device(context, &limits), 0);
  EXPECT_NE(limits.device_cap_flags & IBV_DEVICE_SRQ_RESIZE, 0u);
  char from[8] = "resized", to[8] = {};
  engine->pause(true);
  for (uint64_t i = 0; i < 16; ++i) ASSERT_EQ(post(i, to, sizeof to), 0);
  EXPECT_EQ(post(16, to, sizeof to), ENOMEM);
  ibv_srq_attr wanted{};
  wanted.max_wr = 100;
  ASSERT_EQ(ibv_modify_srq(srq, &wanted, IBV_SRQ_MAX_WR), 0);
  ibv_srq_attr found{};
  ASSERT_EQ(ibv_query_srq(srq, &found), 0);
  EXPECT_EQ(found.max_wr, 100u);
  for (uint64_t i = 16; i < 100; ++i) ASSERT_EQ(post(i, to, sizeof to), 0);
  EXPECT_EQ(post(100, to, sizeof to), ENOMEM);
  wanted.max_wr = 99;
  EXPECT_EQ(ibv_modify_srq(srq, &wanted, IBV_SRQ_MAX_WR), EINVAL);
  engine->pause(false);
  for (uint64_t i = 0; i < 98; ++i) {
    ASSERT_EQ(send(qp, from, sizeof from, IBV_SEND_SIGNALED), 0);
    ASSERT_EQ(poll(2)[0].wr_id, i);
  }
  EXPECT_STREQ(to, "resized");
  wanted.max_wr = 1;
  EXPECT_EQ(ibv_modify_srq(srq, &wanted, IBV_SRQ_MAX_WR), EINVAL);
  wanted.max_wr = wanted.srq_limit = 2;
  ASSERT_EQ(ibv_modify_srq(srq, &wanted, IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT), 0);
  ASSERT_EQ(ibv_query_srq(srq, &found), 0);
  EXPECT_EQ(found.max_wr, 16u) << "as it would be created";
  EXPECT_EQ(found.srq_limit, 2u);
  ASSERT_EQ(send(qp, from, sizeof from, IBV_SEND_SIGNALED), 0);
  EXPECT_EQ(poll(2)[0].wr_id, 98u);
}

TEST_F(SharedQueue, SizesOutOfRangeChangeNothing) {
  ibv_srq_attr wanted{};
  EXPECT_EQ(ibv_modify_srq(srq, &wanted, IBV_SRQ_MAX_WR), EINVAL);
  wanted.max_wr = base::Limits::kMaxSrqWr + 1;
  EXPECT_EQ(ibv_modify_srq(srq, &wanted, IBV_SRQ_MAX_WR), EINVAL);
  wanted.max_wr = 20;
  wanted.srq_limit = 21;
  EXPECT_EQ(ibv_modify_srq(srq, &wanted, IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT), EINVAL);
  ibv_srq_attr found{};
  ASSERT_EQ(ibv_query_srq(srq, &found), 0);
  EXPECT_EQ(found.max_wr, 16u);
}

TEST_F(SharedQueue, ADeadEngineFlushesNoneOfIt) {
  ibv_qp* qp = create_on_srq();
  char byte = 0;
  engine->pause(true);
  ASSERT_EQ(post(1, &byte, 1), 0);
  ASSERT_EQ(post_write(qp, 2, &byte, &byte, 1), 0);
  engine->kill();
  wait_for_death();
  const auto wc = poll(1);
  EXPECT_EQ(wc[0].wr_id, 2u);
  ibv_wc more;
  EXPECT_EQ(ibv_poll_cq(cq, 1, &more), 0);
  EXPECT_EQ(post(3, &byte, 1), EIO);
}

}  // namespace
}  // namespace flexins::provider
