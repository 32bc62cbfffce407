#include "provider/events.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <barrier>
#include <cstring>
#include <thread>
#include <vector>

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

}  // namespace
}  // namespace flexins::provider
