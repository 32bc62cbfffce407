#include "daemon/event_pipes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <barrier>
#include <thread>
#include <vector>

namespace flexins::daemon {
namespace {

constexpr base::ChannelId kChannel{7};

class EventPipesTest : public testing::Test {
 protected:
  void SetUp() override {
    auto async = EventPipe::create();
    auto channel = EventPipe::create();
    ASSERT_TRUE(async.ok() && channel.ok());
    async_read = std::move(async->read);
    channel_read = std::move(channel->read);
    pipes.emplace(std::move(async->ours));
    pipes->add_channel(kChannel, std::move(channel->ours));
  }
  /// All that lies in the channel.
  [[nodiscard]] std::vector<uint64_t> read_all() const {
    EXPECT_EQ(::fcntl(channel_read.get(), F_SETFL, O_NONBLOCK), 0);
    std::vector<uint64_t> cookies;
    uint64_t cookie = 0;
    while (::read(channel_read.get(), &cookie, sizeof cookie) == ssize_t{sizeof cookie}) {
      cookies.push_back(cookie);
    }
    return cookies;
  }

  base::UniqueFd async_read, channel_read;
  std::optional<EventPipes> pipes;
};

TEST_F(EventPipesTest, TakesBackWhatOneObjectHas) {
  for (const uint64_t cookie : {1U, 2U, 3U, 2U, 1U}) {
    EXPECT_TRUE(pipes->completion_event(kChannel, cookie));
  }
  EXPECT_EQ(pipes->withdraw_completion_events(kChannel, 2), 2U);
  EXPECT_EQ(pipes->withdraw_completion_events(kChannel, 2), 0U);
  EXPECT_EQ(pipes->withdraw_completion_events(base::ChannelId{8}, 1), 0U);
  EXPECT_EQ(read_all(), (std::vector<uint64_t>{1, 3, 1}));
  EXPECT_EQ(pipes->withdraw_completion_events(kChannel, 1), 0U) << "of an empty pipe";
}

TEST_F(EventPipesTest, CountsWhatDoesNotFit) {
  uint32_t delivered = 0;
  while (pipes->completion_event(kChannel, delivered % 2)) ++delivered;
  EXPECT_EQ(pipes->dropped(), 1U);
  EXPECT_EQ(pipes->withdraw_completion_events(kChannel, 1), delivered / 2);
  EXPECT_EQ(pipes->dropped(), 1U) << "what is put back has room";
  EXPECT_EQ(read_all(), std::vector<uint64_t>(delivered - delivered / 2, 0));
}

TEST_F(EventPipesTest, AsyncRecordsAreTakenWhole) {
  // The other's second half looks like the object.
  EXPECT_TRUE(pipes->async_event(5, static_cast<base::AsyncEvent>(9)));
  EXPECT_TRUE(pipes->async_event(9, base::AsyncEvent::kQpFatal));
  EXPECT_EQ(pipes->withdraw_async_events(9), 1U);
  struct {
    uint64_t element;
    uint32_t type, reserved;
  } record[2]{};
  ASSERT_EQ(::read(async_read.get(), record, sizeof record), ssize_t{sizeof record[0]});
  EXPECT_EQ(record[0].element, 5U);
  EXPECT_EQ(record[0].type, 9U);
}

TEST_F(EventPipesTest, WhatTheApplicationWroteThereHurtsNobody) {
  const std::string path = "/proc/self/fd/" + std::to_string(channel_read.get());
  const base::UniqueFd write(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  EXPECT_TRUE(pipes->completion_event(kChannel, 1));
  ASSERT_EQ(::write(write.get(), "odd", 3), 3);
  EXPECT_TRUE(pipes->completion_event(kChannel, 1));
  EXPECT_EQ(pipes->withdraw_completion_events(kChannel, 1), 1U);
}

TEST_F(EventPipesTest, AReaderAndAWithdrawalShareTheEventsAmongThem) {
  constexpr int kRounds = 2000;
  constexpr uint32_t kEvents = 8;
  std::barrier together(2);
  for (int round = 0; round < kRounds; ++round) {
    for (uint32_t i = 0; i < kEvents; ++i) {
      ASSERT_TRUE(pipes->completion_event(kChannel, 1));
      ASSERT_TRUE(pipes->completion_event(kChannel, 2));
    }
    uint32_t read_of_1 = 0, read_of_2 = 0;
    std::thread reader([&] {
      together.arrive_and_wait();
      // Blocks until those of the object that stays are there, as a program's thread would.
      while (read_of_2 < kEvents) {
        uint64_t cookie = 0;
        ASSERT_EQ(::read(channel_read.get(), &cookie, sizeof cookie), ssize_t{sizeof cookie});
        ++(cookie == 1 ? read_of_1 : read_of_2);
      }
    });
    together.arrive_and_wait();
    const uint32_t withdrawn = pipes->withdraw_completion_events(kChannel, 1);
    reader.join();
    ASSERT_EQ(read_of_1 + withdrawn, kEvents) << "round " << round;
  }
}

}  // namespace
}  // namespace flexins::daemon
