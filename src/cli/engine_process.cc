#include "cli/engine_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include <fmt/format.h>

#include "base/unique_fd.h"

namespace flexins::cli {
namespace {

constexpr int kReadyTimeoutMs = 15'000;
constexpr int kReadyFd = 3;

std::vector<char*> argument_pointers(const std::vector<std::string>& arguments) {
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

/// In the child of a child: no allocation, no return.
[[noreturn]] void run_detached(char* const* arguments, int ready_fd, int null_fd) {
  ::setsid();
  for (int fd = 0; fd <= 2; ++fd) ::dup2(null_fd, fd);
  // Whatever else this process inherited: somebody may wait for its end.
  ::dup2(ready_fd, kReadyFd);
  ::fcntl(kReadyFd, F_SETFD, 0);
  ::close_range(kReadyFd + 1, ~0U, 0);
  ::execv(arguments[0], arguments);
  const char* why = std::strerror(errno);
  [[maybe_unused]] const ssize_t written = ::write(kReadyFd, why, std::strlen(why));
  ::_exit(127);
}

/// What came through the pipe until its end.
base::Result<std::string> read_all(int fd) {
  std::string text;
  for (;;) {
    pollfd watch{fd, POLLIN, 0};
    if (::poll(&watch, 1, kReadyTimeoutMs) == 0) {
      return base::Error{ETIMEDOUT, "the engine was not ready within 15 s; see its log"};
    }
    char buffer[512];
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<size_t>(got));
  }
}

}  // namespace

base::Result<std::string> find_flexinsd() {
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof self - 1);
  if (length > 0) {
    std::string path(self, static_cast<size_t>(length));
    path.replace(path.rfind('/'), std::string::npos, "/flexinsd");
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  const char* search = std::getenv("PATH");
  std::istringstream dirs(search != nullptr ? search : "/usr/local/bin:/usr/bin:/bin");
  for (std::string dir; std::getline(dirs, dir, ':');) {
    const std::string path = dir + "/flexinsd";
    if (!dir.empty() && ::access(path.c_str(), X_OK) == 0) return path;
  }
  return base::Error{ENOENT, "flexinsd is neither beside flexins nor in PATH"};
}

base::Result<std::string> start_detached(const std::vector<std::string>& arguments) {
  auto program = find_flexinsd();
  if (!program) return program.error();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return base::Error{errno, "no pipe to start the engine with"};
  base::UniqueFd read_end(ends[0]);
  base::UniqueFd write_end(ends[1]);
  base::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  std::vector<std::string> all = {*program};
  all.insert(all.end(), arguments.begin(), arguments.end());
  all.insert(all.end(), {"--ready-fd", std::to_string(kReadyFd)});
  const std::vector<char*> pointers = argument_pointers(all);
  const pid_t child = ::fork();
  if (child < 0) return base::Error{errno, fmt::format("fork: {}", std::strerror(errno))};
  if (child == 0) {
    if (::fork() == 0) run_detached(pointers.data(), write_end.get(), null.get());
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  write_end.reset();
  auto said = read_all(read_end.get());
  if (!said) return said.error();
  while (!said->empty() && said->back() == '\n') said->pop_back();
  constexpr std::string_view kReady = "ready ";
  if (said->starts_with(kReady)) return said->substr(kReady.size());
  return base::Error{EIO, said->empty() ? "the engine died while starting; see its log" : *said};
}

base::Error become_engine(const std::vector<std::string>& arguments) {
  auto program = find_flexinsd();
  if (!program) return program.error();
  std::vector<std::string> all = {*program};
  all.insert(all.end(), arguments.begin(), arguments.end());
  ::execv(program->c_str(), argument_pointers(all).data());
  return base::Error{errno, fmt::format("{}: {}", *program, std::strerror(errno))};
}

}  // namespace flexins::cli
