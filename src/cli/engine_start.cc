#include "cli/engine_start.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>

#include "base/unique_fd.h"
#include "cli/engine_process.h"
#include "protocol/runtime_dir.h"

namespace flexins::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kStartLimit{15};
constexpr useconds_t kPollUs = 50'000;

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

/// The process that claimed the engine's directory lives: it serves, or is about to.
bool claimed(const std::string& engine_dir) {
  pid_t pid = 0;
  std::ifstream(protocol::lock_file_path(engine_dir)) >> pid;
  struct stat info {};
  return pid > 0 && ::stat(("/proc/" + std::to_string(pid)).c_str(), &info) == 0;
}

/// Waits for an engine that somebody else is starting. False: there is none.
bool wait_for_other(const std::string& engine_dir) {
  const Clock::time_point begin = Clock::now();
  do {
    ::usleep(kPollUs);
    if (try_connect(engine_dir) == 0) return true;
  } while (claimed(engine_dir) && Clock::now() - begin < kStartLimit);
  return false;
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
    if (problem == EACCES) {
      forbidden = base::Error{EACCES, dir +
                                          ": you may not use this engine; name another one with "
                                          "--engine, and it is started for you"};
    }
  }
  if (forbidden) return *forbidden;
  return std::optional<std::string>();
}

base::Result<std::string> start_engine(const std::string& name) {
  auto runtime_dir = protocol::prepare_runtime_dir();
  if (!runtime_dir) return runtime_dir.error();
  const std::string dir = protocol::engine_dir(*runtime_dir, name);
  const auto start = [&] {
    return start_detached({"--engine", name, "--runtime-dir", *runtime_dir, "--exit-when-idle",
                           "10", "--log-file", "auto"});
  };
  auto started = start();
  // Another `flexins run` may have been quicker, and ours then leaves the field to its engine.
  if (!started && wait_for_other(dir)) return dir;
  if (started) return started;
  return base::Error{started.error().code, "engine '" + name + "' could not start (log: " + dir +
                                               "/log): " + started.error().message};
}

}  // namespace flexins::cli
