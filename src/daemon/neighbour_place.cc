#include "daemon/neighbour_place.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include <fmt/format.h>

#include "daemon/engine_dir.h"
#include "protocol/runtime_dir.h"

namespace flexins::daemon {

namespace {

constexpr std::string_view kSocketSuffix = ".sock";

base::Error failed(const std::string& what, int code = errno) {
  return base::Error{code, what + ": " + std::strerror(code)};
}

base::Result<base::UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return failed(path, ENAMETOOLONG);
  path.copy(address.sun_path, path.size());
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return failed("socket");
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return failed(path);
  }
  return socket;
}

base::Result<Secret> read_secret(const std::string& path) {
  base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) return failed(path);
  Secret secret;
  if (::read(file.get(), secret.data(), secret.size()) != static_cast<ssize_t>(secret.size())) {
    return failed(path, EIO);
  }
  return secret;
}

/// Whoever links first has made it; nobody reads it half written.
base::Result<Secret> shared_secret(const std::string& directory, base::RandomSource& random) {
  const std::string path = directory + "/secret";
  auto known = read_secret(path);
  if (known || known.error().code != ENOENT) return known;
  const std::string mine = fmt::format("{}/.{:016x}", directory, random.next());
  {
    base::UniqueFd file(::open(mine.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    const Secret secret = make_secret(random);
    if (!file.valid() ||
        ::write(file.get(), secret.data(), secret.size()) != static_cast<ssize_t>(secret.size())) {
      return failed(mine);
    }
  }
  const int linked = ::link(mine.c_str(), path.c_str());
  const int code = errno;
  ::unlink(mine.c_str());
  if (linked != 0 && code != EEXIST) return failed(path, code);
  return read_secret(path);
}

void remove_dead_sockets(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(directory.c_str()), ::closedir);
  if (!entries) return;
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string_view name = entry->d_name;
    if (!name.ends_with(kSocketSuffix)) continue;
    const std::string path = directory + "/" + entry->d_name;
    const auto connected = connect_to(path);
    if (!connected && connected.error().code == ECONNREFUSED) ::unlink(path.c_str());
  }
}

}  // namespace

Secret make_secret(base::RandomSource& random) {
  Secret secret;
  for (size_t at = 0; at < secret.size(); at += sizeof(uint64_t)) {
    const uint64_t bits = random.next();
    std::memcpy(secret.data() + at, &bits, sizeof bits);
  }
  return secret;
}

base::Result<NeighbourPlace> NeighbourPlace::enter(const std::string& directory,
                                                   base::RandomSource& random) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return failed(directory);
  if (auto checked = protocol::check_runtime_dir(directory); !checked) return checked.error();
  remove_dead_sockets(directory);
  auto secret = shared_secret(directory, random);
  if (!secret) return secret.error();
  NeighbourPlace place;
  place.directory_ = directory;
  place.secret_ = *secret;
  place.engine_ = random.next();
  auto listener = listen_at(place.socket_path(place.engine_), SOCK_SEQPACKET, 0600);
  if (!listener) return listener.error();
  place.listener_ = std::move(listener).value();
  return place;
}

NeighbourPlace::NeighbourPlace(NeighbourPlace&& other) noexcept
    : directory_(std::move(other.directory_)),
      secret_(other.secret_),
      engine_(other.engine_),
      listener_(std::move(other.listener_)) {}

NeighbourPlace::~NeighbourPlace() {
  if (listener_.valid()) ::unlink(socket_path(engine_).c_str());
}

std::string NeighbourPlace::socket_path(uint64_t engine) const {
  return fmt::format("{}/{:016x}{}", directory_, engine, kSocketSuffix);
}

base::Result<base::UniqueFd> NeighbourPlace::connect(uint64_t engine) const {
  return connect_to(socket_path(engine));
}

}  // namespace flexins::daemon
