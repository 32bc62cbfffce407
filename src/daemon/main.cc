#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>

#include "daemon/daemon.h"
#include "daemon/options.h"

namespace {

using namespace flexins;

constexpr int kCannotStart = 1;
constexpr int kWrongUsage = 2;

/// Descriptors go with sessions, and the shell's usual limit of 1024 is soon reached.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Before any thread is there: they inherit the mask, and signals are read from a descriptor.
void block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

/// Tells whoever started us, and stops their waiting.
void tell(int ready_fd, const std::string& line) {
  if (ready_fd < 0) return;
  [[maybe_unused]] const ssize_t written = ::write(ready_fd, line.data(), line.size());
  ::close(ready_fd);
}

int fail(int ready_fd, const base::Error& error, int status) {
  std::fprintf(stderr, "flexinsd: %s\n", error.message.c_str());
  tell(ready_fd, error.message + "\n");
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  auto options = daemon::read_options(argc, argv);
  if (!options) return fail(-1, options.error(), kWrongUsage);
  if (options->exit_status) return *options->exit_status;
  block_signals();
  raise_descriptor_limit();
  auto engine = daemon::Daemon::start(options->config);
  if (!engine) return fail(options->ready_fd, engine.error(), kCannotStart);
  tell(options->ready_fd, "ready " + (*engine)->directory() + "\n");
  (*engine)->run();
  return 0;
}
