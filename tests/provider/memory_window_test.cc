#include "provider/memory_window.h"

#include <cerrno>

#include "device_fixture.h"

namespace flexins::provider {
namespace {

class MemoryWindows : public OpenDevice {
 protected:
  void SetUp() override {
    OpenDevice::SetUp();
    auto wanted = attributes_on(cq, pd);
    wanted.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    wanted.send_ops_flags = IBV_QP_EX_WITH_BIND_MW | IBV_QP_EX_WITH_LOCAL_INV |
                            IBV_QP_EX_WITH_SEND_WITH_INV | IBV_QP_EX_WITH_ATOMIC_WRITE;
    qp = create_qp_like(wanted);
    ASSERT_NE(qp, nullptr);
    connect(qp, qp->qp_num);
    mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
    ASSERT_NE(mr, nullptr);
  }
  void TearDown() override {
    EXPECT_EQ(ibv_dereg_mr(mr), 0);
    OpenDevice::TearDown();
  }
  ibv_mw_bind_info info() {
    return {mr, reinterpret_cast<uint64_t>(memory) + 100, 200, IBV_ACCESS_REMOTE_WRITE};
  }
  void expect_bound(uint32_t old_key, uint32_t new_key) {
    const auto seen = engine->last_local();
    EXPECT_EQ(seen.key, old_key);
    EXPECT_EQ(seen.new_key, new_key);
    EXPECT_EQ(seen.address, reinterpret_cast<uint64_t>(memory) + 100);
    EXPECT_EQ(seen.bind.length, 200u);
    EXPECT_EQ(seen.bind.region_key, mr->lkey);
    EXPECT_EQ(seen.bind.access, static_cast<uint32_t>(IBV_ACCESS_REMOTE_WRITE));
  }

  ibv_qp* qp = nullptr;
  ibv_mr* mr = nullptr;
  char memory[4096] = {};
};

TEST_F(MemoryWindows, Type1IsBoundByItsVerb) {
  ibv_mw* mw = ibv_alloc_mw(pd, IBV_MW_TYPE_1);
  ASSERT_NE(mw, nullptr);
  EXPECT_EQ(mw->pd, pd);
  EXPECT_EQ(mw->type, IBV_MW_TYPE_1);
  const uint32_t before = mw->rkey;
  ibv_mw_bind bind{};
  bind.wr_id = 5;
  bind.send_flags = IBV_SEND_SIGNALED;
  bind.bind_info = info();
  ASSERT_EQ(ibv_bind_mw(qp, mw, &bind), 0);
  const auto wc = poll(1);
  EXPECT_EQ(wc[0].wr_id, 5u);
  EXPECT_EQ(wc[0].opcode, IBV_WC_BIND_MW);
  EXPECT_EQ(mw->rkey, ibv_inc_rkey(before));
  expect_bound(before, mw->rkey);
  bind.bind_info = {};
  ASSERT_EQ(ibv_bind_mw(qp, mw, &bind), 0);
  poll(1);
  EXPECT_EQ(engine->last_local().bind.length, 0u);
  EXPECT_EQ(ibv_dealloc_mw(mw), 0);
}

TEST_F(MemoryWindows, Type2IsBoundAndInvalidatedByWorkRequests) {
  ibv_mw* mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
  ASSERT_NE(mw, nullptr);
  const uint32_t before = mw->rkey;
  ibv_send_wr wr{};
  wr.opcode = IBV_WR_BIND_MW;
  wr.send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE;  // there is nothing to inline
  wr.bind_mw = {mw, ibv_inc_rkey(before), info()};
  ibv_send_wr* bad = nullptr;
  ASSERT_EQ(ibv_post_send(qp, &wr, &bad), 0);
  EXPECT_EQ(poll(1)[0].opcode, IBV_WC_BIND_MW);
  expect_bound(before, ibv_inc_rkey(before));
  wr = {};
  wr.opcode = IBV_WR_LOCAL_INV;
  wr.send_flags = IBV_SEND_SIGNALED;
  wr.invalidate_rkey = 0x1234;
  ASSERT_EQ(ibv_post_send(qp, &wr, &bad), 0);
  EXPECT_EQ(poll(1)[0].opcode, IBV_WC_LOCAL_INV);
  EXPECT_EQ(engine->last_local().key, 0x1234u);
  EXPECT_EQ(ibv_dealloc_mw(mw), 0);
  EXPECT_EQ(ibv_alloc_mw(pd, static_cast<ibv_mw_type>(3)), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(MemoryWindows, ExtendedRequestsKnowThemToo) {
  ibv_mw* mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
  const uint32_t before = mw->rkey;
  const ibv_mw_bind_info wanted = info();
  ibv_qp_ex* ex = ibv_qp_to_qp_ex(qp);
  char byte = 0;
  ASSERT_EQ(post_receive(qp, 9, &byte, 1), 0);
  ibv_wr_start(ex);
  ex->wr_flags = IBV_SEND_SIGNALED;
  ibv_wr_bind_mw(ex, mw, ibv_inc_rkey(before), &wanted);
  ASSERT_EQ(ibv_wr_complete(ex), 0);
  EXPECT_EQ(poll(1)[0].opcode, IBV_WC_BIND_MW);
  expect_bound(before, ibv_inc_rkey(before));
  ibv_wr_start(ex);
  ibv_wr_local_inv(ex, 77);
  ibv_wr_send_inv(ex, 78);
  ibv_wr_set_sge(ex, 1, reinterpret_cast<uint64_t>(memory), 1);
  ASSERT_EQ(ibv_wr_complete(ex), 0);
  const auto wc = poll(3);
  EXPECT_EQ(wc[0].opcode, IBV_WC_LOCAL_INV);
  EXPECT_EQ(wc[1].opcode, IBV_WC_RECV);
  EXPECT_EQ(wc[1].wc_flags, static_cast<unsigned>(IBV_WC_WITH_INV));
  EXPECT_EQ(wc[1].invalidated_rkey, 78u);
  ibv_wr_start(ex);
  ibv_wr_local_inv(ex, 77);
  ibv_wr_set_sge(ex, 1, 0, 1);
  EXPECT_EQ(ibv_wr_complete(ex), EINVAL) << "it takes no element";
  EXPECT_EQ(ibv_dealloc_mw(mw), 0);
}

TEST_F(MemoryWindows, AtomicWritesCarryAWord) {
  ibv_qp_ex* ex = ibv_qp_to_qp_ex(qp);
  uint64_t word = 0;
  const uint64_t value = 0x1122334455667788;
  ibv_wr_start(ex);
  ex->wr_flags = IBV_SEND_SIGNALED;
  ibv_wr_atomic_write(ex, 1, reinterpret_cast<uint64_t>(&word), &value);
  ASSERT_EQ(ibv_wr_complete(ex), 0);
  EXPECT_EQ(poll(1)[0].opcode, IBV_WC_ATOMIC_WRITE);
  EXPECT_EQ(word, value);
  ibv_wr_start(ex);
  ibv_wr_atomic_write(ex, 1, reinterpret_cast<uint64_t>(&word) + 4, &value);
  EXPECT_EQ(ibv_wr_complete(ex), EINVAL);
  ibv_sge sge{reinterpret_cast<uint64_t>(&value), 4, 1};
  ibv_send_wr wr{};
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.opcode = IBV_WR_ATOMIC_WRITE;
  wr.wr.rdma.remote_addr = reinterpret_cast<uint64_t>(&word);
  ibv_send_wr* bad = nullptr;
  EXPECT_EQ(ibv_post_send(qp, &wr, &bad), EINVAL) << "eight bytes, no less";
}

TEST_F(OpenDevice, UnreliableConnectionsTakeWhatTheyCanDo) {
  auto wanted = attributes_on(cq, pd);
  wanted.qp_type = IBV_QPT_UC;
  wanted.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  wanted.send_ops_flags = IBV_QP_EX_WITH_RDMA_READ;
  EXPECT_EQ(create_qp_like(wanted), nullptr);
  EXPECT_EQ(errno, EOPNOTSUPP);
  wanted.send_ops_flags = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_SEND;
  ibv_qp* qp = create_qp_like(wanted);
  ASSERT_NE(qp, nullptr);
  connect(qp, qp->qp_num);
  char from = 'x', to = 0;
  ASSERT_EQ(post_write(qp, 1, &from, &to, 1), 0);
  EXPECT_EQ(poll(1)[0].opcode, IBV_WC_RDMA_WRITE);
  EXPECT_EQ(to, 'x');
  ibv_send_wr wr{};
  wr.opcode = IBV_WR_RDMA_READ;
  ibv_send_wr* bad = nullptr;
  EXPECT_EQ(ibv_post_send(qp, &wr, &bad), EINVAL);
}

}  // namespace
}  // namespace flexins::provider
