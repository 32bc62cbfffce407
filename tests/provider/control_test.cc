#include <sys/wait.h>

#include <cerrno>

#include "device_fixture.h"
#include "provider/memory.h"

namespace flexins::provider {
namespace {

constexpr int kAllAccess =
    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;

TEST_F(Device, OpensAndCloses) {
  ibv_context* context = open();
  ASSERT_NE(context, nullptr);
  EXPECT_GE(context->async_fd, 0);
  EXPECT_GT(context->num_comp_vectors, 1);
  EXPECT_EQ(ibv_close_device(context), 0);
  EXPECT_EQ(device.refcount, 1);
}

TEST_F(Device, SaysWhatToDoWithoutAnEngine) {
  engine->kill();
  testing::internal::CaptureStderr();
  errno = 0;
  EXPECT_EQ(open(), nullptr);
  EXPECT_NE(errno, 0);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("flexins up"), std::string::npos) << said;
}

TEST_F(Device, PassesARefusalOn) {
  engine->refuse_with = EPROTONOSUPPORT;
  testing::internal::CaptureStderr();
  EXPECT_EQ(open(), nullptr);
  EXPECT_EQ(errno, EPROTONOSUPPORT);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("restart the engine"), std::string::npos) << said;
}

TEST_F(OpenDevice, DescribesItself) {
  ibv_device_attr attributes{};
  ASSERT_EQ(ibv_query_device(context, &attributes), 0);
  EXPECT_EQ(attributes.phys_port_cnt, 1);
  EXPECT_EQ(attributes.max_sge, 32);
  EXPECT_EQ(attributes.atomic_cap, IBV_ATOMIC_HCA);
  const uint8_t* guid = reinterpret_cast<const uint8_t*>(&attributes.node_guid);
  EXPECT_EQ(guid[0], 0x02);
  EXPECT_EQ(guid[7], 0x06);
  ibv_device_attr_ex extended{};
  ASSERT_EQ(ibv_query_device_ex(context, nullptr, &extended), 0);
  EXPECT_EQ(extended.phys_port_cnt_ex, 1u);
}

TEST_F(OpenDevice, DescribesItsPort) {
  ibv_port_attr port{};
  ASSERT_EQ(ibv_query_port(context, 1, &port), 0);
  EXPECT_EQ(port.state, IBV_PORT_ACTIVE);
  EXPECT_EQ(port.active_mtu, IBV_MTU_1024);
  EXPECT_EQ(port.max_mtu, IBV_MTU_4096);
  EXPECT_EQ(port.link_layer, IBV_LINK_LAYER_ETHERNET);
  EXPECT_NE(ibv_query_port(context, 2, &port), 0);
}

TEST_F(OpenDevice, RegistersAndDeregistersMemory) {
  char memory[64];
  ibv_mr* mr = ibv_reg_mr(pd, memory, sizeof memory, kAllAccess);
  ASSERT_NE(mr, nullptr);
  EXPECT_EQ(mr->lkey, mr->rkey);
  EXPECT_EQ(mr->addr, memory);
  const auto sent = engine->last_registration();
  EXPECT_EQ(sent.window_base, reinterpret_cast<uint64_t>(memory));
  EXPECT_EQ(sent.iova, sent.window_base);
  EXPECT_EQ(sent.length, sizeof memory);
  EXPECT_EQ(sent.access, static_cast<uint32_t>(kAllAccess));
  EXPECT_TRUE(FakeWindow::get().last_need_write);
  EXPECT_EQ(FakeWindow::get().tickets.size(), 1u);
  EXPECT_EQ(ibv_dereg_mr(mr), 0);
  EXPECT_TRUE(FakeWindow::get().tickets.empty());
}

TEST_F(OpenDevice, ReadOnlyRegistrationsAskForNoMore) {
  static const char memory[16] = {};
  ibv_mr* mr =
      ibv_reg_mr(pd, const_cast<char*>(memory), sizeof memory, int{IBV_ACCESS_REMOTE_READ});
  ASSERT_NE(mr, nullptr);
  EXPECT_FALSE(FakeWindow::get().last_need_write);
  EXPECT_EQ(ibv_dereg_mr(mr), 0);
}

TEST_F(OpenDevice, RegistersAtAnotherIova) {
  char memory[64];
  ibv_mr* mr = ibv_reg_mr_iova(pd, memory, sizeof memory, 0x1000, kAllAccess);
  ASSERT_NE(mr, nullptr);
  EXPECT_EQ(engine->last_registration().iova, 0x1000u);
  EXPECT_EQ(ibv_dereg_mr(mr), 0);
}

TEST_F(OpenDevice, RegistersNothingAtAll) {
  ibv_mr* mr = ibv_reg_mr(pd, nullptr, 0, int{IBV_ACCESS_LOCAL_WRITE});
  ASSERT_NE(mr, nullptr);
  EXPECT_TRUE(FakeWindow::get().tickets.empty());
  EXPECT_EQ(ibv_dereg_mr(mr), 0);
}

TEST_F(OpenDevice, RefusesAccessThatMakesNoSense) {
  char memory[64];
  EXPECT_EQ(ibv_reg_mr(pd, memory, sizeof memory, int{IBV_ACCESS_REMOTE_WRITE}), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(check_access(IBV_ACCESS_ON_DEMAND), 0);
  EXPECT_EQ(check_access(1 << 15), EINVAL);
  EXPECT_EQ(check_access(kAllAccess | IBV_ACCESS_RELAXED_ORDERING), 0);
  EXPECT_EQ(engine->registrations, 0);
}

TEST_F(OpenDevice, AFailedRegistrationKeepsNothing) {
  char memory[64];
  FakeWindow::get().fail_with = EFAULT;
  EXPECT_EQ(ibv_reg_mr(pd, memory, sizeof memory, kAllAccess), nullptr);
  EXPECT_EQ(errno, EFAULT);
  FakeWindow::get().fail_with = 0;
  engine->refuse_with = ENOMEM;
  EXPECT_EQ(ibv_reg_mr(pd, memory, sizeof memory, kAllAccess), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  engine->refuse_with = 0;
  EXPECT_TRUE(FakeWindow::get().tickets.empty());
  --engine->objects;  // the refusing fake counted it
}

TEST(PackSegments, KeepsTheLongestAndSortsThem) {
  std::vector<window::ClientSegment> segments;
  for (uint64_t i = 0; i < protocol::kMaxSegments + 10; ++i) {
    window::ClientSegment segment;
    segment.address = i * 0x100000;
    segment.length = (i % 2 == 0 ? 1 : 2) * 4096;
    segment.fd = 3;
    segments.push_back(segment);
  }
  auto request = std::make_unique<protocol::RegisterMrRequest>();
  const auto fds = pack_segments(segments, *request);
  EXPECT_EQ(fds, std::vector<int>{3});
  ASSERT_EQ(request->segment_count, protocol::kMaxSegments);
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < request->segment_count; ++i) {
    bytes += request->segments[i].length;
    if (i > 0) {
      EXPECT_LT(request->segments[i - 1].address, request->segments[i].address);
    }
  }
  EXPECT_EQ(bytes, (133u * 2 + 123u) * 4096);
}

TEST(PackSegments, SendsNoMoreObjectsThanAMessageCarries) {
  std::vector<window::ClientSegment> segments;
  for (int i = 0; i < 40; ++i) {
    window::ClientSegment segment;
    segment.address = static_cast<uint64_t>(i) * 0x100000;
    segment.length = 4096;
    segment.fd = 100 + i % 36;
    segments.push_back(segment);
  }
  auto request = std::make_unique<protocol::RegisterMrRequest>();
  const auto fds = pack_segments(segments, *request);
  EXPECT_EQ(fds.size(), protocol::kMaxDescriptors);
  EXPECT_EQ(request->segment_count, protocol::kMaxDescriptors + 4);
  for (uint32_t i = 0; i < request->segment_count; ++i) {
    const auto& sent = request->segments[i];
    const int original = 100 + static_cast<int>(sent.address / 0x100000) % 36;
    EXPECT_EQ(fds.at(sent.descriptor), original);
  }
}

TEST_F(OpenDevice, RefusesQpsBeyondItsMeans) {
  auto wanted = attributes_on(cq, pd);
  wanted.cap.max_send_wr = 1 << 20;
  EXPECT_EQ(create_qp_like(wanted), nullptr);
  EXPECT_EQ(errno, EINVAL);
  wanted = attributes_on(cq, pd);
  wanted.qp_type = IBV_QPT_DRIVER;
  EXPECT_EQ(create_qp_like(wanted), nullptr);
  EXPECT_EQ(errno, EOPNOTSUPP);
  wanted = attributes_on(cq, pd);
  wanted.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  wanted.send_ops_flags = IBV_QP_EX_WITH_TSO;
  EXPECT_EQ(create_qp_like(wanted), nullptr);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST_F(OpenDevice, RefusesCqsBeyondItsMeans) {
  EXPECT_EQ(ibv_create_cq(context, 0, nullptr, nullptr, 0), nullptr);
  EXPECT_EQ(ibv_create_cq(context, (1 << 20) + 1, nullptr, nullptr, 0), nullptr);
  EXPECT_EQ(ibv_create_cq(context, 8, nullptr, nullptr, context->num_comp_vectors), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_GE(cq->cqe, 256);
}

TEST_F(OpenDevice, ACqInUseStays) {
  ASSERT_NE(create_rc(), nullptr);
  EXPECT_EQ(ibv_destroy_cq(cq), EBUSY);
}

TEST_F(OpenDevice, QueriesWhatWasModified) {
  ibv_qp* qp = create_connected();
  ibv_qp_attr attributes{};
  ibv_qp_init_attr initial{};
  ASSERT_EQ(ibv_query_qp(qp, &attributes, IBV_QP_STATE, &initial), 0);
  EXPECT_EQ(attributes.qp_state, IBV_QPS_RTS);
  EXPECT_EQ(attributes.dest_qp_num, qp->qp_num);
  EXPECT_EQ(attributes.ah_attr.is_global, 1);
  EXPECT_EQ(initial.cap.max_send_wr, 16u);
  EXPECT_EQ(initial.send_cq, cq);
}

TEST_F(OpenDevice, AnAddressWithoutGidIsRefused) {
  ibv_qp* qp = create_rc();
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RTR;
  EXPECT_EQ(ibv_modify_qp(qp, &attributes, IBV_QP_STATE | IBV_QP_AV), EINVAL);
}

TEST_F(OpenDevice, EverythingIsFreedInTheEngine) {
  create_connected();
  TearDown();
  qps.clear();
  cq = nullptr;
  pd = nullptr;
  context = nullptr;
  EXPECT_EQ(engine->objects, 0u);
}

TEST_F(OpenDevice, AChildIsKeptOutOfItsParentsSession) {
  install_process_hooks();
  ibv_qp* qp = create_connected();
  char from[8] = "parent", to[8] = {};
  const pid_t child = ::fork();
  if (child == 0) {
    int wrong = 0;
    ibv_device_attr attributes{};
    ibv_wc wc;
    if (ibv_alloc_pd(context) != nullptr || errno != EIO) wrong |= 1;
    if (ibv_query_device(context, &attributes) != 0) wrong |= 2;
    if (ibv_poll_cq(cq, 1, &wc) >= 0) wrong |= 4;
    if (post_write(qp, 1, from, to, 8) != EIO) wrong |= 8;
    if (ibv_destroy_qp(qp) != 0) wrong |= 16;
    if (ibv_destroy_cq(cq) != 0) wrong |= 32;
    if (ibv_dealloc_pd(pd) != 0) wrong |= 64;
    ::_exit(wrong);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  ASSERT_EQ(post_write(qp, 7, from, to, 8), 0);
  EXPECT_EQ(poll(1)[0].wr_id, 7u);
  EXPECT_STREQ(to, "parent");
}

}  // namespace
}  // namespace flexins::provider
