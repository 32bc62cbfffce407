#include "daemon/engine_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "protocol/runtime_dir.h"

namespace flexins::daemon {
namespace {

base::Error failed(const std::string& path, int code) {
  std::string message = fmt::format("{}: {}", path, std::strerror(code));
  if (code == EACCES || code == EPERM || code == EROFS) {
    message += "; name a directory of your own with --runtime-dir or FLEXINS_RUNTIME_DIR";
  }
  return base::Error{code, std::move(message)};
}

std::string owner_of(int lock) {
  char pid[32] = {};
  const ssize_t got = ::pread(lock, pid, sizeof pid - 1, 0);
  if (got <= 0) return "another process";
  return fmt::format("pid {}", std::string(pid, std::strcspn(pid, "\n")));
}

base::Result<void> make_directory(const std::string& path) {
  // Root's engine serves all users; they must reach its sockets. Whatever the umask says.
  const mode_t mode = ::geteuid() == 0 ? 0755 : 0700;
  if (::mkdir(path.c_str(), mode) != 0) {
    if (errno != EEXIST) return failed(path, errno);
    return protocol::check_runtime_dir(path);
  }
  if (::chmod(path.c_str(), mode) != 0) return failed(path, errno);
  return {};
}

/// Is the open file still what `path` names? An engine that ends takes its file away.
bool still_there(int fd, const std::string& path) {
  struct stat held {};
  struct stat named {};
  return ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

/// The locked file, or an invalid descriptor when it has just been taken away: try again.
base::Result<base::UniqueFd> lock_file(const std::string& path, const std::string& name) {
  if (auto made = make_directory(path); !made) return made.error();
  const std::string file = protocol::lock_file_path(path);
  base::UniqueFd lock(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!lock.valid() && errno == ENOENT) return lock;
  if (!lock.valid()) return failed(file, errno);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) {
    if (!still_there(lock.get(), file)) lock.reset();
    return lock;
  }
  if (errno != EWOULDBLOCK) return failed(file, errno);
  return base::Error{EADDRINUSE,
                     fmt::format("engine '{}' is already running ({}, {}); stop it with `flexins "
                                 "down --engine {}` or choose another name with --engine",
                                 name, owner_of(lock.get()), path, name)};
}

}  // namespace

base::Result<EngineDir> EngineDir::claim(const std::string& runtime_dir, const std::string& name) {
  const std::string path = protocol::engine_dir(runtime_dir, name);
  base::UniqueFd lock;
  while (!lock.valid()) {
    auto locked = lock_file(path, name);
    if (!locked) return locked.error();
    lock = std::move(locked).value();
  }
  const std::string file = protocol::lock_file_path(path);
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(lock.get(), 0) != 0 ||
      ::pwrite(lock.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return failed(file, errno);
  }
  EngineDir dir(path, std::move(lock));
  dir.remove_sockets();
  return dir;
}

void EngineDir::remove_sockets() const {
  ::unlink(protocol::session_socket_path(path_).c_str());
  ::unlink(protocol::admin_socket_path(path_).c_str());
  ::unlink(protocol::cm_socket_path(path_).c_str());
}

EngineDir::~EngineDir() {
  if (!lock_.valid()) return;
  remove_sockets();
  ::unlink(protocol::lock_file_path(path_).c_str());
  ::rmdir(path_.c_str());  // stays where a log is kept in it
}

base::Result<base::UniqueFd> listen_at(const std::string& path, int type, mode_t mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return base::Error{ENAMETOOLONG,
                       fmt::format("{}: {} characters are too many for a socket (limit {}); choose "
                                   "a shorter --runtime-dir",
                                   path, path.size(), sizeof address.sun_path - 1)};
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  base::UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return failed(path, errno);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failed(path, errno);
  }
  if (::chmod(path.c_str(), mode) != 0) return failed(path, errno);
  if (::listen(fd.get(), SOMAXCONN) != 0) return failed(path, errno);
  return fd;
}

}  // namespace flexins::daemon
