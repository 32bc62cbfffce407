#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "child.h"
#include "test_memory.h"
#include "window/client.h"
#include "window/page_mover.h"

namespace flexins::window {
namespace {

class ForkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (PageMover::create() == nullptr) GTEST_SKIP() << "no userfaultfd in user mode here";
  }
  static Preparation prepare(const Pages& pages) {
    auto prepared = WindowClient::instance().prepare(pages.address(), pages.bytes(), true, false);
    EXPECT_TRUE(prepared.ok());
    EXPECT_TRUE(is_adopted(pages.address()));
    return prepared.value();
  }
};

TEST_F(ForkTest, ChildHasASnapshotAndItsOwnPages) {
  const Pages pages(3000);  // more than one chunk
  fill(pages.data(), pages.bytes(), 1);
  const auto preparation = prepare(pages);
  auto window = open_of(preparation, pages.address(), pages.bytes());
  Child child([&](int in, int out) {
    char token = 0;
    if (is_adopted(pages.address())) return 1;
    if (::read(in, &token, 1) != 1) return 2;  // the parent has changed all since
    if (!is_filled(pages.data(), pages.bytes(), 1)) return 3;
    fill(pages.data(), pages.bytes(), 9);
    if (::write(out, &token, 1) != 1 || ::read(in, &token, 1) != 1) return 4;
    if (!is_filled(pages.data(), pages.bytes(), 9)) return 5;
    // The child may register the same memory for itself; the parent's ticket means nothing here.
    WindowClient::instance().release(preparation.ticket);
    auto own = WindowClient::instance().prepare(pages.address(), pages.bytes(), true, false);
    if (!own.ok() || own->segments.size() != 1 || !is_adopted(pages.address())) return 6;
    if (!is_filled(pages.data(), pages.bytes(), 9)) return 7;
    WindowClient::instance().release(own->ticket);
    return is_filled(pages.data(), pages.bytes(), 9) ? 0 : 8;
  });
  fill(pages.data(), pages.bytes(), 2);
  child.send('a');
  EXPECT_EQ(child.receive(), 'a');
  EXPECT_TRUE(is_filled(pages.data(), pages.bytes(), 2)) << "the child's stores are its own";
  fill(window->resolve(pages.address(), pages.bytes()).data, pages.bytes(), 3);
  EXPECT_TRUE(is_filled(pages.data(), pages.bytes(), 3)) << "still adopted here";
  child.send('b');
  EXPECT_EQ(child.wait(), 0);
  WindowClient::instance().release(preparation.ticket);
  EXPECT_TRUE(is_filled(pages.data(), pages.bytes(), 3));
}

TEST_F(ForkTest, ChildrenThatDieAtOnceHoldNobodyUp) {
  const Pages pages(10);
  const auto preparation = prepare(pages);
  for (int i = 0; i < 20; ++i) {
    Child child([](int, int) { return 0; });
    if (i % 2 == 0) child.kill();
  }
  WindowClient::instance().release(preparation.ticket);
}

TEST_F(ForkTest, MemoryKeptFromChildrenStaysSo) {
  const Pages pages(4);
  ASSERT_EQ(::madvise(pages.data(), pages.bytes(), MADV_DONTFORK), 0);
  const auto preparation = prepare(pages);
  Child child([&](int, int) { return mapping_line(pages.address()).empty() ? 0 : 1; });
  EXPECT_EQ(child.wait(), 0);
  WindowClient::instance().release(preparation.ticket);
  Child later([&](int, int) { return mapping_line(pages.address()).empty() ? 0 : 1; });
  EXPECT_EQ(later.wait(), 0);
}

TEST_F(ForkTest, BareForkLeavesAdoptedPagesOut) {
  const Pages pages(4);
  const auto preparation = prepare(pages);
  before_bare_fork();
  const auto child = static_cast<pid_t>(::syscall(SYS_fork));
  if (child == 0) {
    unsigned char present = 0;
    // mincore says ENOMEM for what is not mapped; nothing else is safe here.
    ::_exit(::mincore(pages.data(), kPage, &present) == 0 ? 1 : 0);
  }
  after_bare_fork();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  Child ordinary([&](int, int) { return pages.data()[0] == std::byte{0} ? 0 : 1; });
  EXPECT_EQ(ordinary.wait(), 0);
  WindowClient::instance().release(preparation.ticket);
}

TEST_F(ForkTest, MemoryDescriptorIsTheChildsOwn) {
  static int value = 1;
  const int ours = WindowClient::instance().memory_descriptor();
  ASSERT_GE(ours, 0);
  EXPECT_EQ(WindowClient::instance().memory_descriptor(), ours);
  Child child([&](int, int) {
    value = 2;
    const int fd = WindowClient::instance().memory_descriptor();
    int seen = 0;
    if (::pread(fd, &seen, sizeof seen, static_cast<off_t>(address_of(&value))) != sizeof seen) {
      return 1;
    }
    return seen == 2 ? 0 : 2;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(ForkTest, RegisteringInOneThreadAndForkingInAnother) {
  const Pages pages(64);
  fill(pages.data(), pages.bytes(), 5);
  std::atomic<bool> stop{false};
  std::thread registering([&] {
    while (!stop) {
      auto own = WindowClient::instance().prepare(pages.address(), pages.bytes(), true, false);
      if (own.ok()) WindowClient::instance().release(own->ticket);
    }
  });
  for (unsigned i = 0; i < rounds("FLEXINS_FORK_ROUNDS", 15); ++i) {
    Child child([&](int, int) {
      if (is_adopted(pages.address())) return 1;
      return is_filled(pages.data(), pages.bytes(), 5) ? 0 : 2;
    });
    EXPECT_EQ(child.wait(), 0);
  }
  stop = true;
  registering.join();
}

}  // namespace
}  // namespace flexins::window
