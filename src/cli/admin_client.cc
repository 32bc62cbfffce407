#include "cli/admin_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "protocol/runtime_dir.h"

namespace flexins::cli {
namespace {

/// An engine answers within milliseconds; one that does not is stuck.
constexpr timeval kAnswerTimeout = {10, 0};

/// A connected socket, or an invalid one with errno set.
base::UniqueFd connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return {};
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return socket;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerTimeout, sizeof kAnswerTimeout);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int code = errno;
    socket.reset();
    errno = code;
  }
  return socket;
}

}  // namespace

base::Result<AdminClient> AdminClient::connect(const std::string& name) {
  if (!protocol::valid_engine_name(name)) {
    return base::Error{EINVAL, fmt::format("'{}' is no engine name", name)};
  }
  for (const std::string& dir : protocol::engine_dirs(name)) {
    base::UniqueFd socket = connect_to(protocol::admin_socket_path(dir));
    if (socket.valid()) return AdminClient(std::move(socket), dir);
    // Left behind by an engine that died, or being taken down right now.
    if (errno == ECONNREFUSED || errno == ENOENT) continue;
    return base::Error{errno,
                       fmt::format("engine '{}' in {}: {}", name, dir, std::strerror(errno))};
  }
  return base::Error{
      ENOENT,
      fmt::format("no engine '{}' is running; start one with `flexins up{}`", name,
                  name == protocol::kDefaultEngineName ? std::string() : " --engine " + name)};
}

base::Result<std::string> AdminClient::read_line() {
  for (;;) {
    const size_t end = input_.find('\n');
    if (end != std::string::npos) {
      std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      return line;
    }
    char buffer[16 * 1024];
    const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) return base::Error{ECONNRESET, "the engine has gone"};
    if (got < 0 && errno == EAGAIN) return base::Error{ETIMEDOUT, "the engine does not answer"};
    if (got < 0) return base::Error{errno, fmt::format("the engine: {}", std::strerror(errno))};
    input_.append(buffer, static_cast<size_t>(got));
  }
}

base::Result<nlohmann::json> AdminClient::request(const nlohmann::json& command) {
  const std::string line = command.dump() + "\n";
  if (::send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(line.size())) {
    return base::Error{ECONNRESET, "the engine has gone"};
  }
  auto answer = read_line();
  if (!answer) return answer.error();
  nlohmann::json json = nlohmann::json::parse(*answer, nullptr, false);
  if (!json.is_object()) return base::Error{EPROTO, "the engine's answer is not JSON"};
  if (json.contains("error")) {
    return base::Error{json.value("errno", EIO), json.value("error", std::string("refused"))};
  }
  return json;
}

bool AdminClient::wait_for_end(int timeout_ms) {
  pollfd watch{socket_.get(), POLLRDHUP, 0};
  return ::poll(&watch, 1, timeout_ms) > 0;
}

}  // namespace flexins::cli
