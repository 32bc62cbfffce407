#include "provider/wq.h"

#include <cerrno>

#include "base/flow.h"
#include "device_fixture.h"

namespace flexins::provider {
namespace {

static_assert(int{IBV_RX_HASH_SRC_IPV4} == int{base::kHashSourceIpv4});
static_assert(int{IBV_RX_HASH_DST_IPV6} == int{base::kHashDestinationIpv6});
static_assert(int{IBV_RX_HASH_SRC_PORT_TCP} == int{base::kHashSourcePortTcp});
static_assert(int{IBV_RX_HASH_DST_PORT_UDP} == int{base::kHashDestinationPortUdp});

class WorkQueue : public OpenDevice {
 protected:
  void SetUp() override {
    OpenDevice::SetUp();
    wq = create();
    ASSERT_NE(wq, nullptr);
  }
  void TearDown() override {
    EXPECT_EQ(ibv_destroy_wq(wq), 0);
    OpenDevice::TearDown();
  }
  ibv_wq_init_attr attributes() const {
    ibv_wq_init_attr wanted{};
    wanted.wq_context = const_cast<int*>(&tag);
    wanted.wq_type = IBV_WQT_RQ;
    wanted.max_wr = 4;
    wanted.max_sge = 2;
    wanted.pd = pd;
    wanted.cq = cq;
    return wanted;
  }
  ibv_wq* create() {
    auto wanted = attributes();
    return ibv_create_wq(context, &wanted);
  }
  int move_to(ibv_wq_state state) {
    ibv_wq_attr attributes{};
    attributes.attr_mask = IBV_WQ_ATTR_STATE;
    attributes.wq_state = state;
    return ibv_modify_wq(wq, &attributes);
  }
  int post(uint64_t wr_id, char* to) {
    ibv_sge sge{reinterpret_cast<uint64_t>(to), 8, 1};
    ibv_recv_wr wr{};
    wr.wr_id = wr_id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    const int error = ibv_post_wq_recv(wq, &wr, &bad);
    EXPECT_EQ(bad, error == 0 ? nullptr : &wr);
    return error;
  }
  ibv_rwq_ind_table* create_table(uint32_t log, std::vector<ibv_wq*> queues) {
    ibv_rwq_ind_table_init_attr wanted{};
    wanted.log_ind_tbl_size = log;
    wanted.ind_tbl = queues.data();
    return ibv_create_rwq_ind_table(context, &wanted);
  }
  ibv_qp_init_attr_ex spreading(ibv_rwq_ind_table* table) {
    ibv_qp_init_attr_ex wanted{};
    wanted.qp_type = IBV_QPT_RAW_PACKET;
    wanted.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_IND_TABLE | IBV_QP_INIT_ATTR_RX_HASH;
    wanted.pd = pd;
    wanted.rwq_ind_tbl = table;
    wanted.rx_hash_conf = {IBV_RX_HASH_FUNC_TOEPLITZ, sizeof hash_key, hash_key,
                           IBV_RX_HASH_SRC_IPV4};
    return wanted;
  }
  int create_error(ibv_qp_init_attr_ex wanted) {
    errno = 0;
    EXPECT_EQ(ibv_create_qp_ex(context, &wanted), nullptr);
    return errno;
  }

  int tag = 0;
  uint8_t hash_key[40] = {1, 2, 3};
  ibv_wq* wq = nullptr;
};

TEST_F(WorkQueue, TakesReceivesFromReadyOn) {
  EXPECT_EQ(wq->wq_context, &tag);
  EXPECT_EQ(wq->state, IBV_WQS_RESET);
  char to[8] = {};
  EXPECT_EQ(post(1, to), EINVAL);
  ASSERT_EQ(move_to(IBV_WQS_RDY), 0);
  EXPECT_EQ(wq->state, IBV_WQS_RDY);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(post(i, to), 0);
  EXPECT_EQ(post(4, to), ENOMEM);
  ibv_qp* sender = create_rc();
  connect(sender, wq->wq_num);
  char from[8] = "frame";
  for (uint64_t i = 0; i < 9; ++i) {
    ibv_sge sge{reinterpret_cast<uint64_t>(from), 8, 1};
    ibv_send_wr wr{}, *bad = nullptr;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = IBV_WR_SEND;
    ASSERT_EQ(ibv_post_send(sender, &wr, &bad), 0);
    const auto done = poll(1);
    EXPECT_EQ(done[0].wr_id, i);
    EXPECT_EQ(done[0].qp_num, wq->wq_num);
    EXPECT_EQ(done[0].opcode, IBV_WC_RECV);
    EXPECT_STREQ(to, "frame");
    ASSERT_EQ(post(i + 4, to), 0) << "its place is free again";
  }
}

TEST_F(WorkQueue, IsFlushedWhenTheEngineDies) {
  ASSERT_EQ(move_to(IBV_WQS_RDY), 0);
  char to[8];
  ASSERT_EQ(post(1, to), 0);
  ASSERT_EQ(post(2, to), 0);
  engine->kill();
  wait_for_death();
  const auto done = poll(2);
  EXPECT_EQ(done[1].wr_id, 2u);
  EXPECT_EQ(done[1].status, IBV_WC_WR_FLUSH_ERR);
  EXPECT_EQ(done[1].qp_num, wq->wq_num);
  EXPECT_EQ(post(3, to), EIO);
}

TEST_F(WorkQueue, RefusesWhatItCannotDo) {
  auto wanted = attributes();
  wanted.comp_mask = IBV_WQ_INIT_ATTR_FLAGS;
  wanted.create_flags = IBV_WQ_FLAGS_CVLAN_STRIPPING;
  EXPECT_EQ(ibv_create_wq(context, &wanted), nullptr);
  EXPECT_EQ(errno, EOPNOTSUPP);
  wanted = attributes();
  wanted.max_wr = base::Limits::kMaxReceiveWr + 1;
  EXPECT_EQ(ibv_create_wq(context, &wanted), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(move_to(IBV_WQS_UNKNOWN), EINVAL);
  ibv_wq_attr change{};
  change.attr_mask = IBV_WQ_ATTR_FLAGS;
  EXPECT_EQ(ibv_modify_wq(wq, &change), EOPNOTSUPP);
  change.attr_mask = IBV_WQ_ATTR_STATE | IBV_WQ_ATTR_CURR_STATE;
  change.curr_wq_state = IBV_WQS_RDY;
  change.wq_state = IBV_WQS_RDY;
  EXPECT_EQ(ibv_modify_wq(wq, &change), EINVAL);
}

TEST_F(WorkQueue, ATableAndAHashMakeAQueuePair) {
  ibv_wq* other = create();
  ibv_rwq_ind_table* table = create_table(1, {other, wq});
  ASSERT_NE(table, nullptr);
  EXPECT_EQ(engine->last_table().queue_count, 2u);
  EXPECT_EQ(engine->last_table().queues[0], other->wq_num);
  EXPECT_EQ(engine->last_table().queues[1], wq->wq_num);
  auto wanted = spreading(table);
  ibv_qp* qp = ibv_create_qp_ex(context, &wanted);
  ASSERT_NE(qp, nullptr);
  EXPECT_EQ(engine->last_spreading().table, static_cast<uint32_t>(table->ind_tbl_handle));
  EXPECT_EQ(engine->last_spreading().hash.key[2], 3);
  EXPECT_EQ(engine->last_spreading().hash.fields, uint32_t{IBV_RX_HASH_SRC_IPV4});
  char byte = 0;
  EXPECT_EQ(post_receive(qp, 1, &byte, 1), EINVAL);
  EXPECT_NE(post_write(qp, 1, &byte, &byte, 1), 0);
  EXPECT_EQ(ibv_destroy_qp(qp), 0);
  EXPECT_EQ(ibv_destroy_rwq_ind_table(table), 0);
  EXPECT_EQ(ibv_destroy_wq(other), 0);
}

TEST_F(WorkQueue, HashesAndTablesAreChecked) {
  EXPECT_EQ(create_table(10, {wq}), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(create_table(40, {wq}), nullptr);
  EXPECT_EQ(errno, EINVAL);
  ibv_rwq_ind_table* table = create_table(0, {wq});
  auto bad = spreading(table);
  bad.qp_type = IBV_QPT_UD;
  EXPECT_EQ(create_error(bad), EOPNOTSUPP);
  bad = spreading(table);
  bad.rx_hash_conf.rx_hash_function = 2;
  EXPECT_EQ(create_error(bad), EOPNOTSUPP);
  bad = spreading(table);
  bad.rx_hash_conf.rx_hash_fields_mask = IBV_RX_HASH_INNER | IBV_RX_HASH_SRC_IPV4;
  EXPECT_EQ(create_error(bad), EOPNOTSUPP);
  bad = spreading(table);
  bad.rx_hash_conf.rx_hash_key_len = 39;
  EXPECT_EQ(create_error(bad), EINVAL);
  bad = spreading(table);
  bad.comp_mask &= ~uint32_t{IBV_QP_INIT_ATTR_RX_HASH};
  EXPECT_EQ(create_error(bad), EINVAL);
  EXPECT_EQ(ibv_destroy_rwq_ind_table(table), 0);
  ibv_device_attr_ex caps{};
  ASSERT_EQ(ibv_query_device_ex(context, nullptr, &caps), 0);
  EXPECT_EQ(caps.rss_caps.rx_hash_function, IBV_RX_HASH_FUNC_TOEPLITZ);
  EXPECT_EQ(caps.rss_caps.max_rwq_indirection_table_size, 512u);
  EXPECT_GT(caps.max_wq_type_rq, 0u);
}

}  // namespace
}  // namespace flexins::provider
