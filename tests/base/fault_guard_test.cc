#include "base/fault_guard.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace flexins::base {
namespace {

/// Two pages of a memory object that can be truncated behind its mapping.
class FaultGuard : public testing::Test {
 protected:
  void SetUp() override {
    install_fault_guard();
    page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    fd_.reset(memfd_create("fault_guard_test", MFD_CLOEXEC));
    ASSERT_TRUE(fd_.valid());
    ASSERT_EQ(ftruncate(fd_.get(), static_cast<off_t>(2 * page_)), 0);
    void* at = mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    ASSERT_NE(at, MAP_FAILED);
    bytes_ = static_cast<char*>(at);
  }
  void TearDown() override {
    if (bytes_ != nullptr) munmap(bytes_, 2 * page_);
  }
  void cut_second_page() { ASSERT_EQ(ftruncate(fd_.get(), static_cast<off_t>(page_)), 0); }

  size_t page_ = 0;
  char* bytes_ = nullptr;

 private:
  UniqueFd fd_;
};

TEST_F(FaultGuard, GoodMemoryPasses) {
  const uint64_t before = guarded_fault_count();
  EXPECT_TRUE(guarded([this] { std::memset(bytes_, 7, 2 * page_); }));
  EXPECT_EQ(bytes_[2 * page_ - 1], 7);
  EXPECT_EQ(guarded_fault_count(), before);
}

TEST_F(FaultGuard, LoadBehindATruncationFails) {
  cut_second_page();
  const uint64_t before = guarded_fault_count();
  volatile char sink = 0;
  EXPECT_FALSE(guarded([&] { sink = bytes_[page_]; }));
  EXPECT_EQ(guarded_fault_count(), before + 1);
}

TEST_F(FaultGuard, SingleStoreFails) {
  cut_second_page();
  // A lone store is where an optimiser sees no reader of the guard.
  char* const at = bytes_ + page_;
  EXPECT_FALSE(guarded([at] { *at = 1; }));
}

TEST_F(FaultGuard, CopyFailsAndLeavesTheRestAlone) {
  cut_second_page();
  std::vector<char> source(2 * page_, 9);
  EXPECT_FALSE(guarded([&] { std::memcpy(bytes_, source.data(), 2 * page_); }));
  EXPECT_TRUE(guarded([this] { bytes_[0] = 3; }));
  EXPECT_EQ(bytes_[0], 3);
}

TEST_F(FaultGuard, RepeatedFaultsAreEachCaught) {
  cut_second_page();
  for (int i = 0; i < 100; ++i) ASSERT_FALSE(guarded([this] { bytes_[page_] = 1; }));
}

TEST_F(FaultGuard, SignalMaskIsAsBefore) {
  cut_second_page();
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, SIGUSR2);
  sigset_t saved;
  pthread_sigmask(SIG_SETMASK, &only, &saved);
  EXPECT_FALSE(guarded([this] { bytes_[page_] = 1; }));
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, &saved, &after);
  EXPECT_EQ(sigismember(&after, SIGUSR2), 1);
  EXPECT_EQ(sigismember(&after, SIGBUS), 0);
  EXPECT_EQ(sigismember(&after, SIGTERM), 0);
}

TEST_F(FaultGuard, InnerFaultLeavesTheOuterBodyRunning) {
  cut_second_page();
  bool inner = true;
  bool reached = false;
  EXPECT_TRUE(guarded([&] {
    inner = guarded([this] { bytes_[page_] = 1; });
    reached = true;
  }));
  EXPECT_FALSE(inner);
  EXPECT_TRUE(reached);
}

TEST_F(FaultGuard, OuterFaultAfterAnInnerCall) {
  cut_second_page();
  bool inner = false;
  EXPECT_FALSE(guarded([&] {
    inner = guarded([this] { bytes_[0] = 1; });
    bytes_[page_] = 1;
  }));
  EXPECT_TRUE(inner);
  EXPECT_FALSE(guarded([this] { bytes_[page_] = 1; })) << "the guard is whole after both";
}

TEST_F(FaultGuard, UnmappedMemoryFails) {
  ASSERT_EQ(munmap(bytes_, 2 * page_), 0);
  char* const at = std::exchange(bytes_, nullptr);
  EXPECT_FALSE(guarded([at] { *at = 1; }));
}

TEST_F(FaultGuard, EachThreadHasItsOwnGuard) {
  cut_second_page();
  std::vector<std::thread> threads;
  std::array<int, 4> caught{};
  for (size_t i = 0; i < caught.size(); ++i) {
    threads.emplace_back([&count = caught[i], at = bytes_ + page_ + i] {
      for (int round = 0; round < 50; ++round) {
        if (!guarded([at] { *at = 1; })) ++count;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(caught, (std::array<int, 4>{50, 50, 50, 50}));
}

using FaultGuardDeathTest = FaultGuard;

TEST_F(FaultGuardDeathTest, OutsideAGuardTheFaultKills) {
  cut_second_page();
  EXPECT_EXIT(bytes_[page_] = 1, testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace flexins::base
