#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fake_engine.h"
#include "fake_window.h"
#include "provider/cq.h"
#include "provider/driver.h"
#include "provider/registry.h"

namespace flexins::provider {

/// A device over a fake engine, opened as libibverbs opens it; verbs are called through the real
/// libibverbs. Only what needs device nodes is done by hand.
class Device : public testing::Test {
 protected:
  Device() {
    char pattern[] = "/tmp/flexins-provider-XXXXXX";
    dir = ::mkdtemp(pattern);
    ::setenv("FLEXINS_RUNTIME_DIR", dir.c_str(), 1);
    ::unsetenv("FLEXINS_ENGINE");
    FakeWindow::get() = FakeWindow();
    engine = std::make_unique<FakeEngine>(dir);
    device.ops = &device_ops();
    device.refcount = 1;
  }
  ~Device() override {
    engine.reset();
    std::string command = "rm -rf '" + dir + "'";
    EXPECT_EQ(std::system(command.c_str()), 0);
  }

  ibv_context* open() {
    const int cmd_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    verbs_context* verbs = device_ops().alloc_context(&device.device, cmd_fd, nullptr);
    return verbs == nullptr ? nullptr : &verbs->context;
  }

  std::string dir;
  std::unique_ptr<FakeEngine> engine;
  verbs_device device{};
};

/// With a context, PD and CQ.
class OpenDevice : public Device {
 protected:
  void SetUp() override {
    context = open();
    ASSERT_NE(context, nullptr);
    pd = ibv_alloc_pd(context);
    ASSERT_NE(pd, nullptr);
    cq = ibv_create_cq(context, 256, nullptr, nullptr, 0);
    ASSERT_NE(cq, nullptr);
  }
  void TearDown() override {
    for (ibv_qp* qp : qps) EXPECT_EQ(ibv_destroy_qp(qp), 0);
    if (cq != nullptr) {
      EXPECT_EQ(ibv_destroy_cq(cq), 0);
    }
    if (pd != nullptr) {
      EXPECT_EQ(ibv_dealloc_pd(pd), 0);
    }
    if (context != nullptr) {
      EXPECT_EQ(ibv_close_device(context), 0);
    }
  }

  static ibv_qp_init_attr_ex attributes_on(ibv_cq* where, ibv_pd* pd, uint32_t wr = 16) {
    ibv_qp_init_attr_ex wanted{};
    wanted.send_cq = wanted.recv_cq = where;
    wanted.cap = {wr, wr, 32, 4, 512};
    wanted.qp_type = IBV_QPT_RC;
    wanted.comp_mask = IBV_QP_INIT_ATTR_PD;
    wanted.pd = pd;
    return wanted;
  }

  ibv_qp* create_qp_like(ibv_qp_init_attr_ex wanted) {
    ibv_qp* qp = nullptr;
    if ((wanted.comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) != 0) {
      qp = ibv_create_qp_ex(context, &wanted);
    } else {
      qp = ibv_create_qp(wanted.pd, reinterpret_cast<ibv_qp_init_attr*>(&wanted));
    }
    if (qp != nullptr) qps.push_back(qp);
    return qp;
  }
  ibv_qp* create_rc(uint32_t wr = 16) { return create_qp_like(attributes_on(cq, pd, wr)); }

  static int move(ibv_qp* qp, ibv_qp_state state) {
    ibv_qp_attr attributes{};
    attributes.qp_state = state;
    return ibv_modify_qp(qp, &attributes, IBV_QP_STATE);
  }
  static void connect(ibv_qp* qp, uint32_t peer) {
    ASSERT_EQ(move(qp, IBV_QPS_INIT), 0);
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_RTR;
    attributes.dest_qp_num = peer;
    attributes.ah_attr.is_global = 1;
    ASSERT_EQ(ibv_modify_qp(qp, &attributes, IBV_QP_STATE | IBV_QP_DEST_QPN | IBV_QP_AV), 0);
    ASSERT_EQ(move(qp, IBV_QPS_RTS), 0);
  }
  /// A QP connected to itself.
  ibv_qp* create_connected(uint32_t wr = 16) {
    ibv_qp* qp = create_rc(wr);
    if (qp != nullptr) connect(qp, qp->qp_num);
    return qp;
  }

  static int post_write(ibv_qp* qp, uint64_t wr_id, const void* from, void* to, uint32_t length,
                        unsigned flags = IBV_SEND_SIGNALED) {
    ibv_sge sge{reinterpret_cast<uint64_t>(from), length, 1};
    ibv_send_wr wr{};
    wr.wr_id = wr_id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = IBV_WR_RDMA_WRITE;
    wr.send_flags = flags;
    wr.wr.rdma.remote_addr = reinterpret_cast<uint64_t>(to);
    ibv_send_wr* bad = nullptr;
    const int error = ibv_post_send(qp, &wr, &bad);
    EXPECT_EQ(bad, error == 0 ? nullptr : &wr);
    return error;
  }
  static int post_receive(ibv_qp* qp, uint64_t wr_id, void* to, uint32_t length) {
    ibv_sge sge{reinterpret_cast<uint64_t>(to), length, 1};
    ibv_recv_wr wr{};
    wr.wr_id = wr_id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    return ibv_post_recv(qp, &wr, &bad);
  }

  /// Polls until `count` completions are there; ctest's limit ends a wait in vain.
  std::vector<ibv_wc> poll(size_t count, ibv_cq* from = nullptr) {
    std::vector<ibv_wc> all;
    while (all.size() < count) {
      ibv_wc wc[8];
      const int room = static_cast<int>(std::min<size_t>(8, count - all.size()));
      const int got = ibv_poll_cq(from != nullptr ? from : cq, room, wc);
      EXPECT_GE(got, 0);
      if (got < 0) break;
      all.insert(all.end(), wc, wc + got);
    }
    return all;
  }
  /// Polls until the engine's death has been noticed.
  void wait_for_death() {
    while (Context::of(context).check_liveness_now()) std::this_thread::yield();
  }

  ibv_context* context = nullptr;
  ibv_pd* pd = nullptr;
  ibv_cq* cq = nullptr;
  std::vector<ibv_qp*> qps;
};

}  // namespace flexins::provider
