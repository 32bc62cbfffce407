#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <utility>

#include <gtest/gtest.h>

namespace flexins::window {

/// A forked process that runs `body` (with a pipe to talk to us) and exits with what it returns.
class Child {
 public:
  /// `body` gets the descriptor to read from and the one to write to.
  explicit Child(const std::function<int(int, int)>& body) {
    int to_child[2];
    int from_child[2];
    EXPECT_EQ(::pipe(to_child), 0);
    EXPECT_EQ(::pipe(from_child), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(to_child[1]);
      ::close(from_child[0]);
      ::_exit(body(to_child[0], from_child[1]));
    }
    ::close(to_child[0]);
    ::close(from_child[1]);
    to_ = to_child[1];
    from_ = from_child[0];
  }
  ~Child() {
    kill();
    ::close(to_);
    ::close(from_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] int from() const { return from_; }
  void send(char token) const { EXPECT_EQ(::write(to_, &token, 1), 1); }
  /// The next byte the child wrote, or -1 when it has ended.
  [[nodiscard]] int receive() const {
    unsigned char token = 0;
    return ::read(from_, &token, 1) == 1 ? token : -1;
  }
  /// The exit status, or -1 for a death by signal.
  int wait() {
    int status = 0;
    if (::waitpid(std::exchange(pid_, -1), &status, 0) < 0) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }

 private:
  int pid_ = -1;
  int to_ = -1;
  int from_ = -1;
};

}  // namespace flexins::window
