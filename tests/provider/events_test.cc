#include "provider/events.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <barrier>
#include <chrono>
#include <cstring>
#include <future>
#include <thread>
#include <vector>

#include "device_fixture.h"

namespace flexins::provider {
namespace {

/// A pipe of completion records, as the engine makes one.
class EventPipe : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0); }
  void TearDown() override {
    for (const int fd : fds) ::close(fd);
  }
  void put(uint64_t cookie) const {
    ASSERT_EQ(::write(fds[1], &cookie, sizeof cookie), ssize_t{sizeof cookie});
  }
  [[nodiscard]] std::vector<uint64_t> take_all() const {
    std::vector<uint64_t> cookies;
    uint64_t cookie;
    while (::read(fds[0], &cookie, sizeof cookie) == ssize_t{sizeof cookie}) {
      cookies.push_back(cookie);
    }
    return cookies;
  }

  int fds[2];
};

TEST_F(EventPipe, PurgingTakesOneElementsEventsOut) {
  for (const uint64_t cookie : {1U, 2U, 3U, 2U, 1U}) put(cookie);
  purge_events(fds[0], kCompletionRecordBytes, 2);
  EXPECT_EQ(take_all(), (std::vector<uint64_t>{1, 3, 1}));
}

TEST_F(EventPipe, PurgingAnEmptyPipeDoesNotBlock) {
  ASSERT_EQ(::fcntl(fds[0], F_SETFL, 0), 0);
  purge_events(fds[0], kCompletionRecordBytes, 2);
  ASSERT_EQ(::fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
  EXPECT_TRUE(take_all().empty());
}

TEST_F(EventPipe, ThreadsThatPurgeDoNotHideEventsFromEachOther) {
  constexpr int kRounds = 2000;
  std::barrier together(2);
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < 8; ++i) {
      put(1);
      put(2);
    }
    put(3);
    std::thread other([&] {
      together.arrive_and_wait();
      purge_events(fds[0], kCompletionRecordBytes, 1);
    });
    together.arrive_and_wait();
    purge_events(fds[0], kCompletionRecordBytes, 2);
    other.join();
    ASSERT_EQ(take_all(), std::vector<uint64_t>{3}) << "round " << round;
  }
}

// A thread has read an event from its descriptor, and libibverbs in it has not come so far as to
// tell the provider of it: what the event names must live until it is acknowledged.

/// Time for a destruction that does not wait to end. One that does wait takes longer than any.
constexpr std::chrono::milliseconds kHeadStart{100};

/// Begins to destroy; fails the test unless that waits.
template <typename Destroy>
std::future<int> begin_to_destroy(Destroy&& destroy) {
  auto done = std::async(std::launch::async, std::forward<Destroy>(destroy));
  EXPECT_EQ(done.wait_for(kHeadStart), std::future_status::timeout) << "its event is still in use";
  return done;
}

TEST_F(OpenDevice, ACqOutlivesTheReadingOfItsEvent) {
  ibv_comp_channel channel{context, -1, 0};
  channel.fd = preload_hooks().create_channel(context->cmd_fd);
  ibv_cq* one = ibv_create_cq(context, 16, nullptr, &channel, 0);
  ibv_qp* qp = create_qp_like(attributes_on(one, pd));
  connect(qp, qp->qp_num);
  char from = 'x', to = 0;
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(ibv_req_notify_cq(one, 0), 0);
    ASSERT_EQ(post_write(qp, 1, &from, &to, 1), 0);
    poll(1, one);
    while (Cq::of(one).header().armed.load() != pipe::kDisarmed) std::this_thread::yield();
  }
  EXPECT_EQ(ibv_destroy_qp(qp), 0);
  qps.clear();
  uint64_t cookie = 0;
  ASSERT_EQ(::read(channel.fd, &cookie, sizeof cookie), ssize_t{sizeof cookie});
  ASSERT_EQ(cookie, reinterpret_cast<uint64_t>(one));
  auto done = begin_to_destroy([&] { return ibv_destroy_cq(one); });
  on_completion_event(one);
  ibv_ack_cq_events(one, 1);
  EXPECT_EQ(done.get(), 0) << "the second event, which nobody has read, is not waited for";
  preload_hooks().channel_closing(channel.fd);
  ::close(channel.fd);
}

TEST_F(OpenDevice, AQpOutlivesTheReadingOfItsEvent) {
  ibv_qp* qp = create_connected();
  engine->raise_async(reinterpret_cast<uint64_t>(qp), IBV_EVENT_QP_FATAL);
  engine->raise_async(reinterpret_cast<uint64_t>(qp), IBV_EVENT_QP_FATAL);
  char record[kAsyncRecordBytes];
  ASSERT_EQ(::read(context->async_fd, record, sizeof record), ssize_t{sizeof record});
  auto done = begin_to_destroy([&] { return ibv_destroy_qp(qp); });
  qps.clear();
  ibv_async_event event{};
  event.event_type = IBV_EVENT_QP_FATAL;
  event.element.qp = qp;
  ibv_ack_async_event(&event);
  EXPECT_EQ(done.get(), 0);
}

TEST_F(OpenDevice, AnSrqOutlivesTheReadingOfItsEvent) {
  ibv_srq_init_attr wanted{};
  wanted.attr.max_wr = 16;
  ibv_srq* srq = ibv_create_srq(pd, &wanted);
  ASSERT_NE(srq, nullptr);
  engine->raise_async(reinterpret_cast<uint64_t>(srq), IBV_EVENT_SRQ_LIMIT_REACHED);
  char record[kAsyncRecordBytes];
  ASSERT_EQ(::read(context->async_fd, record, sizeof record), ssize_t{sizeof record});
  auto done = begin_to_destroy([&] { return ibv_destroy_srq(srq); });
  ibv_async_event event{};
  event.event_type = IBV_EVENT_SRQ_LIMIT_REACHED;
  event.element.srq = srq;
  ibv_ack_async_event(&event);
  EXPECT_EQ(done.get(), 0);
}

}  // namespace
}  // namespace flexins::provider
