#include "daemon/engine_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "daemon/idle_backoff.h"

namespace flexins::daemon {
namespace {

using testing::HasSubstr;

class EngineDirTest : public testing::Test {
 protected:
  EngineDirTest() {
    char name[] = "/tmp/flexins-dir-test-XXXXXX";
    root_ = ::mkdtemp(name);
  }
  ~EngineDirTest() override { std::filesystem::remove_all(root_); }
  std::string root_;
};

TEST_F(EngineDirTest, ASecondEngineIsToldWhoRuns) {
  auto first = EngineDir::claim(root_, "e");
  ASSERT_TRUE(first) << first.error().message;
  auto second = EngineDir::claim(root_, "e");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_THAT(second.error().message, HasSubstr("pid " + std::to_string(::getpid())));
  EXPECT_TRUE(EngineDir::claim(root_, "other"));
}

TEST_F(EngineDirTest, NothingStaysBehind) {
  {
    auto dir = EngineDir::claim(root_, "e");
    ASSERT_TRUE(dir);
    EXPECT_TRUE(listen_at(dir->path() + "/session.sock", SOCK_SEQPACKET, 0600));
  }
  EXPECT_FALSE(std::filesystem::exists(root_ + "/e"));
  EXPECT_TRUE(EngineDir::claim(root_, "e"));
}

TEST_F(EngineDirTest, WhatADeadEngineLeftIsReplaced) {
  std::filesystem::create_directory(root_ + "/e");
  ::chmod((root_ + "/e").c_str(), 0700);
  std::ofstream(root_ + "/e/engine.pid") << "999999999\n and more";
  {
    auto stale = listen_at(root_ + "/e/session.sock", SOCK_SEQPACKET, 0600);
    auto stale_too = listen_at(root_ + "/e/cm.sock", SOCK_SEQPACKET, 0600);
  }
  auto dir = EngineDir::claim(root_, "e");
  ASSERT_TRUE(dir) << dir.error().message;
  std::string pid;
  std::getline(std::ifstream(root_ + "/e/engine.pid"), pid);
  EXPECT_EQ(pid, std::to_string(::getpid()));
  EXPECT_TRUE(listen_at(root_ + "/e/session.sock", SOCK_SEQPACKET, 0600));
  EXPECT_TRUE(listen_at(root_ + "/e/cm.sock", SOCK_SEQPACKET, 0600));
}

TEST_F(EngineDirTest, TheFixIsNamed) {
  EXPECT_FALSE(EngineDir::claim(root_ + "/missing", "e"));
  const std::string deep = root_ + "/" + std::string(120, 'x');
  EXPECT_THAT(listen_at(deep, SOCK_STREAM, 0600).error().message, HasSubstr("--runtime-dir"));
}

TEST(IdleBackoff, SpinsYieldsThenSleeps) {
  IdleBackoff idle({1000, 5000});
  EXPECT_EQ(idle.idle(0), IdleAction::kSpin);
  EXPECT_EQ(idle.idle(999), IdleAction::kSpin);
  EXPECT_EQ(idle.idle(1000), IdleAction::kYield);
  EXPECT_EQ(idle.idle(5999), IdleAction::kYield);
  EXPECT_EQ(idle.idle(6000), IdleAction::kSleep);
}

TEST(IdleBackoff, SpinningHasToPay) {
  IdleBackoff idle({1000, 5000});
  for (base::TimeNs at = 0; at < 1'000'000; at += 100'000) {
    static_cast<void>(idle.idle(at));
    idle.worked(at + 50'000);
  }
  EXPECT_LT(idle.spin_ns(), 2u);
  for (base::TimeNs at = 1'000'000; at < 1'010'000; at += 1000) {
    static_cast<void>(idle.idle(at));
    idle.worked(at + 500);
  }
  EXPECT_EQ(idle.spin_ns(), 1000u);
}

TEST(IdleBackoff, YieldsThatTakeLongAreSkippedForAWhile) {
  IdleBackoff idle({0, 100'000});
  ASSERT_EQ(idle.idle(0), IdleAction::kYield);
  idle.yielded(3'000'000);
  for (int round = 0; round < 64; ++round) {
    ASSERT_EQ(idle.idle(10), IdleAction::kSleep) << round;
    idle.slept();
  }
  ASSERT_EQ(idle.idle(10), IdleAction::kYield);
  idle.yielded(1'000);
  EXPECT_EQ(idle.idle(20), IdleAction::kYield);
}

}  // namespace
}  // namespace flexins::daemon
