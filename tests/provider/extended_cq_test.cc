#include <cerrno>
#include <ctime>
#include <set>

#include "device_fixture.h"

namespace flexins::provider {
namespace {

class ExtendedCq : public OpenDevice {
 protected:
  static constexpr uint64_t kAll = kSupportedWcFlags;

  /// What libibverbs does with a device that it has opened itself.
  ibv_cq_ex* create(ibv_cq_init_attr_ex wanted) {
    ibv_cq_ex* made = create_cq_ex(context, &wanted);
    if (made != nullptr) {
      verbs_init_cq(ibv_cq_ex_to_cq(made), context, wanted.channel, wanted.cq_context);
    }
    return made;
  }
  static ibv_cq_init_attr_ex wish(uint64_t wc_flags, uint32_t flags = 0) {
    ibv_cq_init_attr_ex wanted{};
    wanted.cqe = 16;
    wanted.wc_flags = wc_flags;
    if (flags != 0) {
      wanted.comp_mask = IBV_CQ_INIT_ATTR_MASK_FLAGS;
      wanted.flags = flags;
    }
    return wanted;
  }
  /// A QP on `extended`, connected to itself.
  ibv_qp* connected_on(ibv_cq_ex* extended) {
    ibv_qp* qp = create_qp_like(attributes_on(ibv_cq_ex_to_cq(extended), pd));
    if (qp != nullptr) connect(qp, qp->qp_num);
    return qp;
  }
  void destroy(ibv_cq_ex* extended) {
    while (!qps.empty()) {
      EXPECT_EQ(ibv_destroy_qp(qps.back()), 0);
      qps.pop_back();
    }
    EXPECT_EQ(ibv_destroy_cq(ibv_cq_ex_to_cq(extended)), 0);
  }
  static int start_eventually(ibv_cq_ex* extended) {
    ibv_poll_cq_attr attributes{};
    for (;;) {
      const int error = ibv_start_poll(extended, &attributes);
      if (error != ENOENT) return error;
    }
  }
  char from[64] = {}, to[64] = {};
};

TEST_F(ExtendedCq, EveryReaderReads) {
  ibv_cq_ex* extended = create(wish(kAll));
  ASSERT_NE(extended, nullptr);
  ibv_qp* qp = connected_on(extended);
  ASSERT_NE(qp, nullptr);
  ASSERT_EQ(post_write(qp, 7, from, to, 64), 0);
  ASSERT_EQ(start_eventually(extended), 0);
  EXPECT_EQ(extended->wr_id, 7u);
  EXPECT_EQ(extended->status, IBV_WC_SUCCESS);
  EXPECT_EQ(ibv_wc_read_opcode(extended), IBV_WC_RDMA_WRITE);
  EXPECT_EQ(ibv_wc_read_qp_num(extended), qp->qp_num);
  EXPECT_EQ(ibv_wc_read_vendor_err(extended), 0u);
  EXPECT_EQ(ibv_wc_read_wc_flags(extended), 0u);
  EXPECT_EQ(ibv_wc_read_slid(extended), 0u);
  EXPECT_EQ(ibv_wc_read_sl(extended), 0u);
  EXPECT_EQ(ibv_wc_read_dlid_path_bits(extended), 0u);
  EXPECT_EQ(ibv_wc_read_src_qp(extended), 0u);
  EXPECT_EQ(ibv_wc_read_imm_data(extended), 0u);
  EXPECT_EQ(ibv_wc_read_byte_len(extended), 64u);
  const uint64_t stamp = ibv_wc_read_completion_ts(extended);
  const uint64_t wall = ibv_wc_read_completion_wallclock_ns(extended);
  EXPECT_NE(stamp, 0u);
  EXPECT_GT(wall, stamp) << "1970 was before this machine started";
  EXPECT_EQ(ibv_next_poll(extended), ENOENT);
  ibv_end_poll(extended);
  destroy(extended);
}

TEST_F(ExtendedCq, BatchesKeepTheirOrder) {
  for (const uint32_t flags : {0u, uint32_t{IBV_CREATE_CQ_ATTR_SINGLE_THREADED}}) {
    ibv_cq_ex* extended = create(wish(IBV_WC_STANDARD_FLAGS, flags));
    ASSERT_NE(extended, nullptr);
    ibv_qp* qp = connected_on(extended);
    for (uint64_t i = 0; i < 12; ++i) ASSERT_EQ(post_write(qp, i, from, to, 8), 0);
    uint64_t next = 0;
    while (next < 12) {
      ASSERT_EQ(start_eventually(extended), 0);
      do {
        EXPECT_EQ(extended->wr_id, next++);
      } while (ibv_next_poll(extended) == 0);
      ibv_end_poll(extended);
    }
    destroy(extended);
  }
}

TEST_F(ExtendedCq, ThePlainPollWorksOnItToo) {
  ibv_cq_ex* extended = create(wish(IBV_WC_STANDARD_FLAGS));
  ibv_qp* qp = connected_on(extended);
  ASSERT_EQ(post_write(qp, 3, from, to, 8), 0);
  ibv_wc wc{};
  while (ibv_poll_cq(ibv_cq_ex_to_cq(extended), 1, &wc) == 0) {
  }
  EXPECT_EQ(wc.wr_id, 3u);
  destroy(extended);
}

TEST_F(ExtendedCq, WhatIsNotThereIsRefused) {
  for (const uint64_t flag : {uint64_t{IBV_WC_EX_WITH_CVLAN}, uint64_t{IBV_WC_EX_WITH_FLOW_TAG},
                              uint64_t{IBV_WC_EX_WITH_TM_INFO}}) {
    EXPECT_EQ(create(wish(flag)), nullptr);
    EXPECT_EQ(errno, EOPNOTSUPP);
  }
  EXPECT_EQ(create(wish(0, 1u << 20)), nullptr);
  EXPECT_EQ(errno, EINVAL);
  ibv_cq_init_attr_ex wanted = wish(0);
  wanted.comp_vector = static_cast<uint32_t>(context->num_comp_vectors);
  EXPECT_EQ(create(wanted), nullptr);
  EXPECT_EQ(errno, EINVAL);
  wanted = wish(0);
  wanted.cqe = 0;
  EXPECT_EQ(create(wanted), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(ExtendedCq, ADeadEngineFlushesThroughItAsWell) {
  ibv_cq_ex* extended = create(wish(kAll));
  ibv_qp* qp = connected_on(extended);
  engine->pause(true);
  ASSERT_EQ(post_write(qp, 1, from, to, 8), 0);
  ASSERT_EQ(post_write(qp, 2, from, to, 8), 0);
  engine->kill();
  ASSERT_EQ(start_eventually(extended), 0);
  EXPECT_EQ(extended->wr_id, 1u);
  EXPECT_EQ(extended->status, IBV_WC_WR_FLUSH_ERR);
  EXPECT_NE(ibv_wc_read_completion_ts(extended), 0u);
  EXPECT_EQ(ibv_next_poll(extended), 0);
  EXPECT_EQ(extended->wr_id, 2u);
  EXPECT_EQ(ibv_next_poll(extended), ENOENT);
  ibv_end_poll(extended);
  destroy(extended);
}

TEST_F(ExtendedCq, ResizingLosesNothing) {
  ibv_qp* qp = create_connected();
  for (uint64_t i = 0; i < 5; ++i) ASSERT_EQ(post_write(qp, i, from, to, 8), 0);
  ASSERT_EQ(ibv_resize_cq(cq, 1000), 0);
  EXPECT_EQ(cq->cqe, 1024);
  for (uint64_t i = 5; i < 10; ++i) ASSERT_EQ(post_write(qp, i, from, to, 8), 0);
  for (uint64_t i = 0; i < 10; ++i) {
    ibv_wc wc{};
    while (ibv_poll_cq(cq, 1, &wc) == 0) {
    }
    EXPECT_EQ(wc.wr_id, i);
  }
  EXPECT_EQ(ibv_resize_cq(cq, 0), EINVAL);
  EXPECT_EQ(ibv_resize_cq(cq, (1 << 20) + 1), EINVAL);
}

TEST_F(ExtendedCq, ModerationIsTheEnginesBusiness) {
  ibv_modify_cq_attr attributes{};
  attributes.attr_mask = IBV_CQ_ATTR_MODERATE;
  attributes.moderate = {16, 100};
  EXPECT_EQ(ibv_modify_cq(cq, &attributes), 0);
  attributes.attr_mask = 1u << 5;
  EXPECT_EQ(ibv_modify_cq(cq, &attributes), EINVAL);
}

TEST_F(ExtendedCq, TheClockIsTheOneOfTheStamps) {
  ibv_device_attr_ex device_attributes{};
  ASSERT_EQ(ibv_query_device_ex(context, nullptr, &device_attributes), 0);
  EXPECT_EQ(device_attributes.hca_core_clock, 1'000'000u);
  EXPECT_EQ(device_attributes.completion_timestamp_mask, UINT64_MAX);
  ibv_values_ex values{};
  values.comp_mask = IBV_VALUES_MASK_RAW_CLOCK;
  ASSERT_EQ(ibv_query_rt_values_ex(context, &values), 0);
  EXPECT_EQ(values.comp_mask, IBV_VALUES_MASK_RAW_CLOCK);
  const auto first = values.raw_clock.tv_nsec;
  ASSERT_EQ(ibv_query_rt_values_ex(context, &values), 0);
  EXPECT_GE(values.raw_clock.tv_nsec, first);
}

}  // namespace
}  // namespace flexins::provider
