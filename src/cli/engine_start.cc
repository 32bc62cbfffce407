#include "cli/engine_start.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/unique_fd.h"
#include "protocol/runtime_dir.h"

namespace flexins::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kStartLimit{15};
constexpr std::chrono::seconds kPatience{2};  // then say what we are waiting for
constexpr int kPollMs = 50;
constexpr off_t kMaxLogBytes = 1 << 20;
constexpr off_t kShownLogBytes = 2048;
constexpr int kReadyFd = 3;

base::Error failed(const std::string& what, int code) {
  return base::Error{code, what + ": " + std::strerror(code)};
}

/// 0: somebody takes clients at the session socket of `engine_dir`; else errno.
int try_connect(const std::string& engine_dir) {
  const std::string path = protocol::session_socket_path(engine_dir);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const base::UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return errno;
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(fd.get(), generic, sizeof address) == 0) return 0;
  return errno == EAGAIN ? 0 : errno;  // a queue of clients is full: it listens
}

/// Somebody holds the engine's lock: it runs, or is about to.
bool locked(const std::string& engine_dir) {
  const base::UniqueFd fd(
      ::open(protocol::lock_file_path(engine_dir).c_str(), O_RDONLY | O_CLOEXEC));
  return fd.valid() && ::flock(fd.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

base::Result<base::UniqueFd> open_log(const std::string& path) {
  base::UniqueFd log(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!log.valid()) return failed(path, errno);
  struct stat info {};
  if (::fstat(log.get(), &info) == 0 && info.st_size > kMaxLogBytes &&
      ::ftruncate(log.get(), 0) != 0) {
    return failed(path, errno);
  }
  return log;
}

/// What was written to the log from `start` on, its end if that is much.
std::string log_tail(const std::string& path, off_t start) {
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return {};
  const off_t end = ::lseek(fd.get(), 0, SEEK_END);
  char text[kShownLogBytes + 1] = {};
  const off_t from = std::max(start, end - kShownLogBytes);
  if (end <= from || ::pread(fd.get(), text, kShownLogBytes, from) <= 0) return {};
  return text;
}

/// In the grandchild: nothing of ours but the log and the ready descriptor stays open, so that a
/// pipe which the program's output goes to ends with the program.
[[noreturn]] void become_daemon(const std::string& daemon, const std::string& name,
                                const std::string& runtime_dir, int log, int ready) {
  const int null = ::open("/dev/null", O_RDWR);
  const int kept_ready = ::fcntl(ready, F_DUPFD, kReadyFd + 1);
  const int kept_log = ::fcntl(log, F_DUPFD, kReadyFd + 1);
  ::dup2(null, STDIN_FILENO);
  ::dup2(kept_log, STDOUT_FILENO);
  ::dup2(kept_log, STDERR_FILENO);
  ::dup2(kept_ready, kReadyFd);
  ::close_range(kReadyFd + 1, ~0U, 0);
  // These are for programs; the engine is no client of itself.
  ::unsetenv("LD_PRELOAD");
  ::unsetenv("RDMAV_DRIVERS");
  [[maybe_unused]] const int moved = ::chdir("/");
  ::execl(daemon.c_str(), daemon.c_str(), "--engine", name.c_str(), "--runtime-dir",
          runtime_dir.c_str(), "--exit-when-idle", "10", "--ready-fd", "3",
          static_cast<char*>(nullptr));
  std::fprintf(stderr, "%s: %s\n", daemon.c_str(), std::strerror(errno));
  std::_Exit(127);
}

/// Starts it as a grandchild: our process becomes the program, which must not find a child that it
/// did not start. Returns the read end of the descriptor that says "ready", or ends.
base::Result<base::UniqueFd> spawn(const std::string& daemon, const std::string& name,
                                   const std::string& runtime_dir, int log) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failed("pipe", errno);
  base::UniqueFd ready(ends[0]);
  const base::UniqueFd ready_writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return failed("fork", errno);
  if (child == 0) {
    ::setsid();
    if (::fork() == 0) become_daemon(daemon, name, runtime_dir, log, ready_writer.get());
    std::_Exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return ready;
}

enum class Progress { kWaiting, kReady, kEnded };

Progress wait_a_moment(int ready) {
  pollfd waiting{ready, POLLIN, 0};
  if (::poll(&waiting, 1, kPollMs) <= 0) return Progress::kWaiting;
  char text[16];
  const ssize_t got = ::read(ready, text, sizeof text);
  if (got < 0) return Progress::kWaiting;
  return got == 0 ? Progress::kEnded : Progress::kReady;
}

}  // namespace

base::Result<std::optional<std::string>> find_running_engine(const std::string& name) {
  if (!protocol::valid_engine_name(name)) {
    return base::Error{EINVAL, "'" + name + "' is no engine name: 1 to 32 of A-Z a-z 0-9 _ . -"};
  }
  std::optional<base::Error> forbidden;
  for (const std::string& dir : protocol::engine_dirs(name)) {
    const int problem = try_connect(dir);
    if (problem == 0) return std::optional(dir);
    if (problem == EACCES) forbidden = failed(protocol::session_socket_path(dir), problem);
  }
  if (forbidden) return *forbidden;
  return std::optional<std::string>();
}

base::Result<std::string> start_engine(const std::string& daemon, const std::string& name) {
  auto runtime_dir = protocol::prepare_runtime_dir();
  if (!runtime_dir) return runtime_dir.error();
  std::string dir = protocol::engine_dir(*runtime_dir, name);
  if (::mkdir(dir.c_str(), ::geteuid() == 0 ? 0755 : 0700) != 0 && errno != EEXIST) {
    return failed(dir, errno);
  }
  const std::string log_path = dir + "/log";
  auto log = open_log(log_path);
  if (!log) return log.error();
  const off_t log_start = ::lseek(log->get(), 0, SEEK_END);
  auto ready = spawn(daemon, name, *runtime_dir, log->get());
  if (!ready) return ready.error();

  const Clock::time_point begin = Clock::now();
  bool ended = false;
  bool told = false;
  while (Clock::now() - begin < kStartLimit) {
    if (ended) ::usleep(kPollMs * 1000);
    if (!ended && wait_a_moment(ready->get()) == Progress::kEnded) ended = true;
    if (try_connect(dir) == 0) return dir;
    // Ours may have ended because another one was quicker; its lock says that it lives.
    if (ended && !locked(dir)) {
      return base::Error{ECHILD, "the engine could not start (" + log_path + "):\n" +
                                     log_tail(log_path, log_start)};
    }
    if (!told && Clock::now() - begin > kPatience) {
      std::fprintf(stderr, "flexins: waiting for engine '%s' to start (log: %s)\n", name.c_str(),
                   log_path.c_str());
      told = true;
    }
  }
  return base::Error{ETIMEDOUT, "engine '" + name + "' did not start within 15 s; see " + log_path};
}

}  // namespace flexins::cli
