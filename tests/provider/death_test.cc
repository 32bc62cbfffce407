#include <poll.h>

#include <cerrno>

#include "device_fixture.h"
#include "provider/events.h"

namespace {
const flexins_preload_hooks* announced_hooks = nullptr;
}  // namespace

/// As the preload library exports it.
extern "C" __attribute__((visibility("default"))) int flexins_preload_register(
    const flexins_preload_hooks* hooks) {
  announced_hooks = hooks;
  return 0;
}

namespace flexins::provider {
namespace {

/// A completion channel as ibv_create_comp_channel makes it, without the device node.
struct TestChannel : ibv_comp_channel {
  explicit TestChannel(ibv_context* of) : ibv_comp_channel{of, -1, 0} {
    fd = preload_hooks().create_channel(of->cmd_fd);
  }
  ~TestChannel() {
    preload_hooks().channel_closing(fd);
    ::close(fd);
  }
};

TEST(Hooks, AreAnnouncedToThePreloadLibrary) {
  install_process_hooks();
  ASSERT_EQ(announced_hooks, &preload_hooks());
  EXPECT_EQ(announced_hooks->version, static_cast<uint32_t>(FLEXINS_PRELOAD_HOOKS_VERSION));
  EXPECT_EQ(announced_hooks->size, sizeof(flexins_preload_hooks));
  EXPECT_EQ(announced_hooks->create_channel(12345), -ENOTTY);
  char buffer[16];
  EXPECT_EQ(announced_hooks->read_eof(12345, buffer, sizeof buffer), 0);
}

TEST_F(OpenDevice, CompletionsRaiseEvents) {
  {
    TestChannel channel(context);
    ASSERT_GE(channel.fd, 0);
    int tag = 0;
    ibv_cq* noisy = ibv_create_cq(context, 16, &tag, &channel, 0);
    ASSERT_NE(noisy, nullptr);
    auto wanted = attributes_on(noisy, pd);
    ibv_qp* qp = create_qp_like(wanted);
    connect(qp, qp->qp_num);
    char from = 'x', to = 0;
    for (uint64_t i = 0; i < 50; ++i) {
      ASSERT_EQ(ibv_req_notify_cq(noisy, 0), 0);
      ASSERT_EQ(post_write(qp, i, &from, &to, 1), 0);
      ibv_cq* of = nullptr;
      void* its_tag = nullptr;
      ASSERT_EQ(ibv_get_cq_event(&channel, &of, &its_tag), 0);
      ASSERT_EQ(of, noisy);
      ASSERT_EQ(its_tag, &tag);
      ASSERT_EQ(poll(1, noisy)[0].wr_id, i);
    }
    ibv_ack_cq_events(noisy, 50);
    EXPECT_EQ(ibv_destroy_qp(qp), 0);
    std::erase(qps, qp);
    EXPECT_EQ(ibv_destroy_cq(noisy), 0);
  }
  EXPECT_EQ(engine->channels_destroyed, 1);
}

TEST_F(OpenDevice, NoEventOutlivesItsCq) {
  TestChannel channel(context);
  ibv_cq* both[2] = {ibv_create_cq(context, 16, nullptr, &channel, 0),
                     ibv_create_cq(context, 16, nullptr, &channel, 0)};
  char from = 'x', to = 0;
  for (ibv_cq* one : both) {
    ibv_qp* qp = create_qp_like(attributes_on(one, pd));
    connect(qp, qp->qp_num);
    ASSERT_EQ(ibv_req_notify_cq(one, 0), 0);
    ASSERT_EQ(post_write(qp, 1, &from, &to, 1), 0);
    poll(1, one);
  }
  // Both events lie unread in the channel (the fake engine raises them right after completing).
  for (ibv_cq* one : both) {
    while (Cq::of(one).header().armed.load() != pipe::kDisarmed) std::this_thread::yield();
  }
  ibv_device_attr attributes{};
  ibv_port_attr port{};
  ASSERT_EQ(ibv_query_device(context, &attributes), 0);
  ASSERT_EQ(ibv_query_port(context, 1, &port), 0);  // answered, so the events are written
  EXPECT_EQ(ibv_destroy_qp(qps[0]), 0);
  EXPECT_EQ(ibv_destroy_cq(both[0]), 0);
  ibv_cq* of = nullptr;
  void* tag = nullptr;
  ASSERT_EQ(ibv_get_cq_event(&channel, &of, &tag), 0);
  EXPECT_EQ(of, both[1]);
  ibv_ack_cq_events(of, 1);
  pollfd more{channel.fd, POLLIN, 0};
  EXPECT_EQ(::poll(&more, 1, 0), 0);
  EXPECT_EQ(ibv_destroy_qp(qps[1]), 0);
  qps.clear();
  EXPECT_EQ(ibv_destroy_cq(both[1]), 0);
}

TEST_F(OpenDevice, AsyncEventsReachTheProgram) {
  ibv_qp* qp = create_connected();
  engine->raise_async(reinterpret_cast<uint64_t>(qp), IBV_EVENT_QP_FATAL);
  ibv_async_event event{};
  ASSERT_EQ(ibv_get_async_event(context, &event), 0);
  EXPECT_EQ(event.event_type, IBV_EVENT_QP_FATAL);
  EXPECT_EQ(event.element.qp, qp);
  ibv_ack_async_event(&event);
  engine->raise_async(reinterpret_cast<uint64_t>(qp), IBV_EVENT_QP_FATAL);
  EXPECT_EQ(ibv_destroy_qp(qp), 0);
  qps.clear();
  pollfd more{context->async_fd, POLLIN, 0};
  EXPECT_EQ(::poll(&more, 1, 0), 0) << "an event of a destroyed QP";
}

TEST_F(OpenDevice, DeathFlushesEverythingOnceInOrder) {
  ibv_qp* qp = create_connected();
  char byte[2] = {};
  engine->pause(true);
  for (uint64_t i = 0; i < 5; ++i) ASSERT_EQ(post_receive(qp, 100 + i, byte, 1), 0);
  for (uint64_t i = 0; i < 7; ++i) {
    ASSERT_EQ(post_write(qp, i, byte, byte + 1, 1, i % 2 == 0 ? IBV_SEND_SIGNALED : 0), 0);
  }
  engine->kill();
  const auto wc = poll(12);
  std::vector<uint64_t> sends, receives;
  for (const ibv_wc& one : wc) {
    EXPECT_EQ(one.status, IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(one.qp_num, qp->qp_num);
    (one.opcode == IBV_WC_RECV ? receives : sends).push_back(one.wr_id);
  }
  EXPECT_EQ(sends, (std::vector<uint64_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(receives, (std::vector<uint64_t>{100, 101, 102, 103, 104}));
  ibv_wc more;
  EXPECT_EQ(ibv_poll_cq(cq, 1, &more), 0);
  EXPECT_EQ(post_write(qp, 9, byte, byte + 1, 1), EIO);
}

TEST_F(OpenDevice, WhatCompletedBeforeDeathKeepsItsStatus) {
  ibv_qp* qp = create_connected();
  char byte[2] = {};
  ASSERT_EQ(post_write(qp, 1, byte, byte + 1, 1), 0);
  while (Cq::of(cq).consumer.front() == nullptr) std::this_thread::yield();
  engine->pause(true);
  ASSERT_EQ(post_write(qp, 2, byte, byte + 1, 1), 0);
  engine->kill();
  const auto wc = poll(2);
  EXPECT_EQ(wc[0].wr_id, 1u);
  EXPECT_EQ(wc[0].status, IBV_WC_SUCCESS);
  EXPECT_EQ(wc[1].wr_id, 2u);
  EXPECT_EQ(wc[1].status, IBV_WC_WR_FLUSH_ERR);
}

TEST_F(OpenDevice, AfterDeathVerbsFailAndCleaningUpWorks) {
  ibv_qp* qp = create_connected();
  char memory[16];
  ibv_mr* mr = ibv_reg_mr(pd, memory, sizeof memory, int{IBV_ACCESS_LOCAL_WRITE});
  ASSERT_NE(mr, nullptr);
  engine->kill();
  EXPECT_EQ(ibv_alloc_pd(context), nullptr);
  EXPECT_EQ(errno, EIO);
  ibv_device_attr device_attributes{};
  EXPECT_EQ(ibv_query_device(context, &device_attributes), EIO);
  EXPECT_EQ(move(qp, IBV_QPS_ERR), EIO);
  EXPECT_EQ(ibv_reg_mr(pd, memory, sizeof memory, int{IBV_ACCESS_LOCAL_WRITE}), nullptr);
  EXPECT_EQ(ibv_dereg_mr(mr), 0);
  EXPECT_TRUE(FakeWindow::get().tickets.empty());
  // TearDown destroys QP, CQ, PD and context and expects success.
}

TEST_F(OpenDevice, APipeMayEndBeforeTheSession) {
  const int async_fd = context->async_fd;
  std::thread late([this] { engine->kill_slowly(); });
  char buffer[16];
  ASSERT_EQ(::read(async_fd, buffer, sizeof buffer), 0);
  EXPECT_EQ(preload_hooks().read_eof(async_fd, buffer, sizeof buffer), 16);
  late.join();
}

TEST_F(OpenDevice, DeathIsOneFatalEvent) {
  engine->kill();
  const auto& hooks = preload_hooks();
  char buffer[16];
  ASSERT_EQ(::read(context->async_fd, buffer, sizeof buffer), 0);
  ASSERT_EQ(hooks.read_eof(context->async_fd, buffer, sizeof buffer), 16);
  uint32_t type = 0;
  std::memcpy(&type, buffer + 8, sizeof type);
  EXPECT_EQ(type, static_cast<uint32_t>(IBV_EVENT_DEVICE_FATAL));
  EXPECT_EQ(hooks.read_eof(context->async_fd, buffer, sizeof buffer), -EIO);
}

TEST_F(OpenDevice, AnEndOfFileWhileTheEngineLivesIsNone) {
  char buffer[16];
  EXPECT_EQ(preload_hooks().read_eof(context->async_fd, buffer, sizeof buffer), 0);
}

TEST_F(OpenDevice, DeathWakesWhoWaitsForCompletions) {
  TestChannel channel(context);
  ibv_cq* noisy = ibv_create_cq(context, 16, nullptr, &channel, 0);
  ibv_qp* qp = create_qp_like(attributes_on(noisy, pd));
  connect(qp, qp->qp_num);
  char byte = 0;
  ASSERT_EQ(post_receive(qp, 1, &byte, 1), 0);
  ASSERT_EQ(ibv_req_notify_cq(noisy, 0), 0);
  engine->kill();
  char buffer[8];
  ASSERT_EQ(::read(channel.fd, buffer, sizeof buffer), 0);
  ASSERT_EQ(preload_hooks().read_eof(channel.fd, buffer, sizeof buffer), 8);
  uint64_t cookie = 0;
  std::memcpy(&cookie, buffer, sizeof cookie);
  EXPECT_EQ(cookie, reinterpret_cast<uint64_t>(noisy));
  // Arming anew gives another event while there is something to poll, and an error after that.
  ASSERT_EQ(ibv_req_notify_cq(noisy, 0), 0);
  EXPECT_EQ(preload_hooks().read_eof(channel.fd, buffer, sizeof buffer), 8);
  EXPECT_EQ(poll(1, noisy)[0].status, IBV_WC_WR_FLUSH_ERR);
  ASSERT_EQ(ibv_req_notify_cq(noisy, 0), 0);
  EXPECT_EQ(preload_hooks().read_eof(channel.fd, buffer, sizeof buffer), -EIO);
  EXPECT_EQ(ibv_destroy_qp(qp), 0);
  qps.clear();
  EXPECT_EQ(ibv_destroy_cq(noisy), 0);
}

}  // namespace
}  // namespace flexins::provider
