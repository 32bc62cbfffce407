#include <arpa/inet.h>

#include <cerrno>
#include <numeric>

#include "device_fixture.h"
#include "provider/qp.h"

namespace flexins::provider {
namespace {

std::vector<char> pattern(size_t bytes, int seed) {
  std::vector<char> data(bytes);
  std::iota(data.begin(), data.end(), static_cast<char>(seed));
  return data;
}

TEST_F(OpenDevice, WritesOfAllInlineSizesArrive) {
  ibv_qp* qp = create_connected();
  for (uint32_t size = 0; size <= 512; ++size) {
    auto from = pattern(size, static_cast<int>(size));
    std::vector<char> to(size + 1, '-');
    const auto sent = from;
    ASSERT_EQ(
        post_write(qp, size, from.data(), to.data(), size, IBV_SEND_SIGNALED | IBV_SEND_INLINE), 0);
    std::fill(from.begin(), from.end(), '!');  // inline data are the provider's by now
    const auto wc = poll(1);
    ASSERT_EQ(wc[0].wr_id, size);
    ASSERT_EQ(wc[0].status, IBV_WC_SUCCESS);
    ASSERT_EQ(wc[0].opcode, IBV_WC_RDMA_WRITE);
    ASSERT_EQ(wc[0].qp_num, qp->qp_num);
    ASSERT_TRUE(std::equal(sent.begin(), sent.end(), to.begin())) << size;
    ASSERT_EQ(to[size], '-');
  }
}

TEST_F(OpenDevice, GatherListsOfAllLengthsArrive) {
  ibv_qp* qp = create_connected();
  const auto from = pattern(32 * 7, 3);
  for (int pieces = 0; pieces <= 32; ++pieces) {
    std::vector<ibv_sge> list;
    for (int i = 0; i < pieces; ++i) {
      list.push_back({reinterpret_cast<uint64_t>(&from[static_cast<size_t>(i) * 7]), 7, 1});
    }
    std::vector<char> to(32 * 7, '-');
    ibv_send_wr wr{};
    wr.sg_list = list.data();
    wr.num_sge = pieces;
    wr.opcode = IBV_WR_RDMA_WRITE;
    wr.send_flags = IBV_SEND_SIGNALED;
    wr.wr.rdma.remote_addr = reinterpret_cast<uint64_t>(to.data());
    ibv_send_wr* bad = nullptr;
    ASSERT_EQ(ibv_post_send(qp, &wr, &bad), 0);
    poll(1);
    const auto written = static_cast<size_t>(pieces) * 7;
    ASSERT_TRUE(std::equal(to.begin(), to.begin() + static_cast<ptrdiff_t>(written), from.begin()));
    if (pieces < 32) {
      ASSERT_EQ(to[written], '-');
    }
  }
}

TEST_F(OpenDevice, SendsMeetReceivesAndCarryImmediates) {
  ibv_qp* qp = create_connected();
  char to[16] = {};
  ASSERT_EQ(post_receive(qp, 40, to, sizeof to), 0);
  char from[] = "hello";
  ibv_sge sge{reinterpret_cast<uint64_t>(from), sizeof from, 1};
  ibv_send_wr wr{};
  wr.wr_id = 41;
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.opcode = IBV_WR_SEND_WITH_IMM;
  wr.imm_data = htonl(0x11223344);
  wr.send_flags = IBV_SEND_SIGNALED;
  ibv_send_wr* bad = nullptr;
  ASSERT_EQ(ibv_post_send(qp, &wr, &bad), 0);
  const auto wc = poll(2);
  EXPECT_EQ(wc[0].wr_id, 40u);
  EXPECT_EQ(wc[0].opcode, IBV_WC_RECV);
  EXPECT_EQ(wc[0].byte_len, sizeof from);
  EXPECT_EQ(wc[0].wc_flags, static_cast<unsigned>(IBV_WC_WITH_IMM));
  EXPECT_EQ(ntohl(wc[0].imm_data), 0x11223344u);
  EXPECT_EQ(wc[1].wr_id, 41u);
  EXPECT_STREQ(to, "hello");
}

TEST_F(OpenDevice, ReadsFetch) {
  ibv_qp* qp = create_connected();
  const auto from = pattern(100, 1);
  std::vector<char> to(100);
  ibv_sge sge{reinterpret_cast<uint64_t>(to.data()), 100, 1};
  ibv_send_wr wr{};
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.opcode = IBV_WR_RDMA_READ;
  wr.send_flags = IBV_SEND_SIGNALED;
  wr.wr.rdma.remote_addr = reinterpret_cast<uint64_t>(from.data());
  ibv_send_wr* bad = nullptr;
  ASSERT_EQ(ibv_post_send(qp, &wr, &bad), 0);
  EXPECT_EQ(poll(1)[0].opcode, IBV_WC_RDMA_READ);
  EXPECT_EQ(to, from);
}

TEST_F(OpenDevice, AtomicsCarryTheirOperands) {
  ibv_qp* qp = create_connected();
  uint64_t word = 5, found = 0;
  ibv_sge sge{reinterpret_cast<uint64_t>(&found), sizeof found, 1};
  ibv_send_wr wr{};
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD;
  wr.send_flags = IBV_SEND_SIGNALED;
  wr.wr.atomic.remote_addr = reinterpret_cast<uint64_t>(&word);
  wr.wr.atomic.compare_add = 37;
  ibv_send_wr* bad = nullptr;
  ASSERT_EQ(ibv_post_send(qp, &wr, &bad), 0);
  EXPECT_EQ(poll(1)[0].opcode, IBV_WC_FETCH_ADD);
  EXPECT_EQ(found, 5u);
  EXPECT_EQ(word, 42u);
  wr.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
  wr.wr.atomic.compare_add = 42;
  wr.wr.atomic.swap = 7;
  ASSERT_EQ(ibv_post_send(qp, &wr, &bad), 0);
  EXPECT_EQ(poll(1)[0].opcode, IBV_WC_COMP_SWAP);
  EXPECT_EQ(found, 42u);
  EXPECT_EQ(word, 7u);
  wr.wr.atomic.remote_addr += 4;
  EXPECT_EQ(ibv_post_send(qp, &wr, &bad), EINVAL) << "not aligned";
  wr.wr.atomic.remote_addr -= 4;
  wr.send_flags = IBV_SEND_INLINE;
  EXPECT_EQ(ibv_post_send(qp, &wr, &bad), EINVAL) << "an atomic has nothing to inline";
  wr.send_flags = 0;
  ibv_sge two[] = {sge, sge};
  wr.sg_list = two;
  wr.num_sge = 2;
  EXPECT_EQ(ibv_post_send(qp, &wr, &bad), EINVAL);
}

TEST_F(OpenDevice, ExtendedAtomicsCarryTheirOperands) {
  auto wanted = attributes_on(cq, pd);
  wanted.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  wanted.send_ops_flags = IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD;
  ibv_qp* qp = create_qp_like(wanted);
  ASSERT_NE(qp, nullptr);
  connect(qp, qp->qp_num);
  ibv_qp_ex* ex = ibv_qp_to_qp_ex(qp);
  uint64_t word = 5, found[2] = {};
  const auto at = reinterpret_cast<uint64_t>(&word);
  ibv_wr_start(ex);
  ex->wr_flags = 0;
  ibv_wr_atomic_fetch_add(ex, 1, at, 3);
  ibv_wr_set_sge(ex, 1, reinterpret_cast<uint64_t>(&found[0]), 8);
  ex->wr_flags = IBV_SEND_SIGNALED;
  ibv_wr_atomic_cmp_swp(ex, 1, at, 8, 9);
  ibv_wr_set_sge(ex, 1, reinterpret_cast<uint64_t>(&found[1]), 8);
  EXPECT_EQ(ibv_wr_complete(ex), 0);
  EXPECT_EQ(poll(1)[0].opcode, IBV_WC_COMP_SWAP);
  EXPECT_EQ(found[0], 5u);
  EXPECT_EQ(found[1], 8u);
  EXPECT_EQ(word, 9u);
  ibv_wr_start(ex);
  ibv_wr_atomic_fetch_add(ex, 1, at + 1, 3);
  EXPECT_EQ(ibv_wr_complete(ex), EINVAL);
  ibv_wr_start(ex);
  ibv_wr_atomic_fetch_add(ex, 1, at, 3);
  ibv_wr_set_inline_data(ex, found, 8);
  EXPECT_EQ(ibv_wr_complete(ex), EINVAL);
}

TEST_F(OpenDevice, PostsOnlyInStatesThatAllowIt) {
  ibv_qp* qp = create_rc();
  char byte[2] = {};
  EXPECT_EQ(post_receive(qp, 1, byte, 1), EINVAL) << "RESET";
  EXPECT_EQ(post_write(qp, 1, byte, byte + 1, 1), EINVAL) << "RESET";
  ASSERT_EQ(move(qp, IBV_QPS_INIT), 0);
  EXPECT_EQ(post_receive(qp, 1, byte, 1), 0) << "INIT";
  EXPECT_EQ(post_write(qp, 1, byte, byte + 1, 1), EINVAL) << "INIT";
  ASSERT_EQ(move(qp, IBV_QPS_RTR), 0);
  EXPECT_EQ(post_write(qp, 1, byte, byte + 1, 1), EINVAL) << "RTR";
}

TEST_F(OpenDevice, AWrongRequestInAListStopsThere) {
  ibv_qp* qp = create_connected();
  char from = 'x', to[2] = {};
  ibv_sge sge{reinterpret_cast<uint64_t>(&from), 1, 1};
  ibv_send_wr wr[3] = {};
  for (int i = 0; i < 3; ++i) {
    wr[i].wr_id = static_cast<uint64_t>(i);
    wr[i].sg_list = &sge;
    wr[i].num_sge = 1;
    wr[i].opcode = IBV_WR_RDMA_WRITE;
    wr[i].send_flags = IBV_SEND_SIGNALED;
    wr[i].wr.rdma.remote_addr = reinterpret_cast<uint64_t>(to);
    if (i < 2) wr[i].next = &wr[i + 1];
  }
  ibv_send_wr* bad = nullptr;
  wr[1].opcode = IBV_WR_TSO;
  EXPECT_EQ(ibv_post_send(qp, wr, &bad), EINVAL);
  EXPECT_EQ(bad, &wr[1]);
  EXPECT_EQ(poll(1)[0].wr_id, 0u);
  wr[1].opcode = IBV_WR_RDMA_WRITE;
  wr[1].num_sge = 33;
  EXPECT_EQ(ibv_post_send(qp, &wr[1], &bad), EINVAL);
  wr[1].num_sge = 1;
  wr[1].opcode = IBV_WR_RDMA_READ;
  wr[1].send_flags = IBV_SEND_INLINE;
  EXPECT_EQ(ibv_post_send(qp, &wr[1], &bad), EINVAL) << "a READ has nothing to inline";
  std::vector<char> large(513);
  EXPECT_EQ(post_write(qp, 9, large.data(), large.data(), 513, IBV_SEND_INLINE), EINVAL);
}

TEST_F(OpenDevice, AFullSendQueueSaysSo) {
  constexpr uint64_t kDepth = 16;  // the least that is granted
  ibv_qp* qp = create_connected(4);
  char from = 'x', to = 0;
  engine->pause(true);
  for (uint64_t i = 0; i < kDepth; ++i) {
    EXPECT_EQ(post_write(qp, i, &from, &to, 1, i == kDepth - 1 ? IBV_SEND_SIGNALED : 0), 0);
  }
  EXPECT_EQ(post_write(qp, kDepth, &from, &to, 1), ENOMEM);
  engine->pause(false);
  EXPECT_EQ(poll(1)[0].wr_id, kDepth - 1);
  // The one completion retired them all.
  for (uint64_t i = 0; i < kDepth; ++i) {
    EXPECT_EQ(post_write(qp, i, &from, &to, 1, i == kDepth - 1 ? IBV_SEND_SIGNALED : 0), 0);
  }
  poll(1);
}

TEST_F(OpenDevice, AFullReceiveQueueSaysSo) {
  ibv_qp* qp = create_connected(4);
  char byte = 0;
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(post_receive(qp, i, &byte, 1), 0);
  EXPECT_EQ(post_receive(qp, 4, &byte, 1), ENOMEM);
}

TEST_F(OpenDevice, AWaitingEngineIsKickedByReceives) {
  ibv_qp* qp = create_connected();
  char byte = 0;
  ASSERT_EQ(post_receive(qp, 1, &byte, 1), 0);
  while (engine->kicks == 0) std::this_thread::yield();
}

TEST_F(OpenDevice, ASleepingEngineIsWoken) {
  ibv_qp* qp = create_connected();
  engine->sleep_when_idle(true);
  char from = 'x', to = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    ASSERT_EQ(post_write(qp, i, &from, &to, 1), 0);
    ASSERT_EQ(poll(1)[0].wr_id, i);
  }
  EXPECT_GT(engine->wakes, 0);
}

TEST_F(OpenDevice, MoreWorkThanTheRingHoldsWaitsForTheEngine) {
  ibv_qp* qp = create_connected(16'384);
  engine->sleep_when_idle(true);
  std::vector<char> from(512, 'x'), to(512);
  constexpr uint64_t kPosts = 2000;  // of nine slots each; the ring has 4096
  for (uint64_t i = 0; i + 1 < kPosts; ++i) {
    ASSERT_EQ(post_write(qp, i, from.data(), to.data(), 512, IBV_SEND_INLINE), 0);
  }
  ASSERT_EQ(post_write(qp, kPosts, from.data(), to.data(), 512, IBV_SEND_SIGNALED), 0);
  EXPECT_EQ(poll(1)[0].wr_id, kPosts);
}

TEST_F(OpenDevice, AResetForgetsWhatCompletedBefore) {
  ibv_qp* qp = create_connected();
  char from = 'x', to = 0;
  ASSERT_EQ(post_write(qp, 1, &from, &to, 1), 0);
  auto& consumer = Cq::of(cq).consumer;
  while (consumer.front() == nullptr) std::this_thread::yield();
  ASSERT_EQ(move(qp, IBV_QPS_RESET), 0);
  connect(qp, qp->qp_num);
  ASSERT_EQ(post_write(qp, 2, &from, &to, 1), 0);
  EXPECT_EQ(poll(1)[0].wr_id, 2u);
}

TEST_F(OpenDevice, CompletionsOfADestroyedQpVanish) {
  ibv_qp* gone = create_connected();
  ibv_qp* kept = create_connected();
  char from = 'x', to = 0;
  ASSERT_EQ(post_write(gone, 1, &from, &to, 1), 0);
  while (Cq::of(cq).consumer.front() == nullptr) std::this_thread::yield();
  ASSERT_EQ(ibv_destroy_qp(gone), 0);
  std::erase(qps, gone);
  ASSERT_EQ(post_write(kept, 2, &from, &to, 1), 0);
  EXPECT_EQ(poll(1)[0].wr_id, 2u);
}

TEST_F(OpenDevice, ExtendedRequestsAreOneBatch) {
  auto wanted = attributes_on(cq, pd);
  wanted.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  wanted.send_ops_flags = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_READ;
  ibv_qp* qp = create_qp_like(wanted);
  ASSERT_NE(qp, nullptr);
  connect(qp, qp->qp_num);
  ibv_qp_ex* ex = ibv_qp_to_qp_ex(qp);
  ASSERT_NE(ex, nullptr);
  auto from = pattern(300, 5);
  std::vector<char> written(300), read(300);

  ibv_wr_start(ex);
  ex->wr_id = 1;
  ex->wr_flags = 0;
  ibv_wr_rdma_write(ex, 1, reinterpret_cast<uint64_t>(written.data()));
  const ibv_data_buf halves[2] = {{from.data(), 150}, {from.data() + 150, 150}};
  ibv_wr_set_inline_data_list(ex, 2, halves);
  ex->wr_id = 2;
  ex->wr_flags = IBV_SEND_SIGNALED | IBV_SEND_FENCE;
  ibv_wr_rdma_read(ex, 1, reinterpret_cast<uint64_t>(written.data()));
  std::vector<ibv_sge> list;
  for (size_t i = 0; i < 10; ++i) {
    list.push_back({reinterpret_cast<uint64_t>(&read[i * 30]), 30, 1});
  }
  ibv_wr_set_sge_list(ex, list.size(), list.data());
  EXPECT_EQ(ibv_wr_complete(ex), 0);

  const auto wc = poll(1);
  EXPECT_EQ(wc[0].wr_id, 2u);
  EXPECT_EQ(wc[0].opcode, IBV_WC_RDMA_READ);
  EXPECT_EQ(written, from);
  EXPECT_EQ(read, from);
}

TEST_F(OpenDevice, ABadOrAbortedBatchPostsNothing) {
  auto wanted = attributes_on(cq, pd, 4);
  wanted.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  wanted.send_ops_flags = IBV_QP_EX_WITH_RDMA_WRITE;
  ibv_qp* qp = create_qp_like(wanted);
  connect(qp, qp->qp_num);
  ibv_qp_ex* ex = ibv_qp_to_qp_ex(qp);
  char from[600] = "batch", to[600] = {};
  const auto add = [&](size_t inline_bytes) {
    ex->wr_flags = IBV_SEND_SIGNALED;
    ibv_wr_rdma_write(ex, 1, reinterpret_cast<uint64_t>(to));
    ibv_wr_set_inline_data(ex, from, inline_bytes);
  };
  ibv_wr_start(ex);
  add(8);
  ibv_wr_abort(ex);
  ibv_wr_start(ex);
  add(8);
  add(513);
  EXPECT_EQ(ibv_wr_complete(ex), EINVAL);
  ibv_wr_start(ex);
  for (int i = 0; i < 17; ++i) add(8);
  EXPECT_EQ(ibv_wr_complete(ex), ENOMEM);
  EXPECT_STREQ(to, "");
  ibv_wr_start(ex);
  ex->wr_id = 77;
  add(8);
  EXPECT_EQ(ibv_wr_complete(ex), 0);
  EXPECT_EQ(poll(1)[0].wr_id, 77u);
  EXPECT_STREQ(to, "batch");
}

TEST_F(OpenDevice, TwoThreadsShareOneRing) {
  constexpr uint64_t kEach = 5000;
  ibv_qp* qp[2] = {create_connected(64), create_connected(64)};
  ibv_cq* second = ibv_create_cq(context, 256, nullptr, nullptr, 0);
  auto wanted = attributes_on(second, pd, 64);
  qp[1] = create_qp_like(wanted);
  connect(qp[1], qp[1]->qp_num);
  const auto work = [this](ibv_qp* mine, ibv_cq* where) {
    uint64_t from = 0, to = 0, wrong = 0;
    for (uint64_t i = 0; i < kEach; ++i) {
      from = i;
      if (post_write(mine, i, &from, &to, 8, IBV_SEND_SIGNALED | IBV_SEND_INLINE) != 0) ++wrong;
      if (poll(1, where)[0].wr_id != i || to != i) ++wrong;
    }
    EXPECT_EQ(wrong, 0u);
  };
  std::thread other(work, qp[1], second);
  work(qp[0], cq);
  other.join();
  EXPECT_EQ(ibv_destroy_qp(qp[1]), 0);
  std::erase(qps, qp[1]);
  EXPECT_EQ(ibv_destroy_cq(second), 0);
}

TEST_F(OpenDevice, TheShortestCqHoldsTheShortestSendQueue) {
  ibv_cq* tiny = ibv_create_cq(context, 1, nullptr, nullptr, 0);
  ibv_qp* qp = create_qp_like(attributes_on(tiny, pd, 1));
  const auto granted = static_cast<int>(Qp::of(qp).cap.max_send_wr + Qp::of(qp).cap.max_recv_wr);
  EXPECT_GE(tiny->cqe, granted);
  EXPECT_EQ(ibv_destroy_qp(qp), 0);
  std::erase(qps, qp);
  EXPECT_EQ(ibv_destroy_cq(tiny), 0);
}

TEST_F(OpenDevice, AnOverrunCqIsAnError) {
  ibv_cq* tiny = ibv_create_cq(context, 1, nullptr, nullptr, 0);
  const int room = tiny->cqe;
  auto wanted = attributes_on(tiny, pd, static_cast<uint32_t>(room) + 4);
  ibv_qp* qp = create_qp_like(wanted);
  connect(qp, qp->qp_num);
  char from = 'x', to = 0;
  for (int i = 0; i < room + 3; ++i) {
    ASSERT_EQ(post_write(qp, static_cast<uint64_t>(i), &from, &to, 1), 0);
  }
  ibv_wc wc;
  while (!Cq::of(tiny).consumer.overflowed()) std::this_thread::yield();
  for (int i = 0; i < room; ++i) EXPECT_EQ(ibv_poll_cq(tiny, 1, &wc), 1);
  EXPECT_LT(ibv_poll_cq(tiny, 1, &wc), 0);
  EXPECT_EQ(ibv_destroy_qp(qp), 0);
  std::erase(qps, qp);
  EXPECT_EQ(ibv_destroy_cq(tiny), 0);
}

}  // namespace
}  // namespace flexins::provider
