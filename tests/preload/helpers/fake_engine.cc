// As much of an engine as `flexins run` sees: a lock, a session socket, a tree, the word that it is
// ready. Leaves its arguments in the engine's directory and ends when told to by a signal, or after
// a minute. $FAKE_ENGINE_FAILS: says so and ends at once.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include "protocol/runtime_dir.h"
#include "protocol/sysfs_tree.h"

using namespace flexins;

namespace {

bool claim(const std::string& dir) {
  const int fd = ::open(protocol::lock_file_path(dir).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0 || ::flock(fd, LOCK_EX | LOCK_NB) != 0) return false;
  return ::dprintf(fd, "%d\n", ::getpid()) > 0;
}

bool listen_in(const std::string& dir) {
  const std::string path = protocol::session_socket_path(dir);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  ::unlink(path.c_str());
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  return ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
         ::listen(fd, 16) == 0;
}

void note_start(const std::string& dir, int argc, char** argv) {
  std::ofstream file(dir + "/started", std::ios::app);
  for (int i = 1; i < argc; ++i) file << argv[i] << ' ';
  const char* preload = std::getenv("LD_PRELOAD");
  file << "preload=" << (preload != nullptr ? preload : "") << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  const int ready_fd = std::atoi(options["--ready-fd"].c_str());
  if (std::getenv("FAKE_ENGINE_FAILS") != nullptr) {
    ::dprintf(ready_fd, "no address to serve\n");
    return 1;
  }
  const std::string dir = protocol::engine_dir(options["--runtime-dir"], options["--engine"]);
  ::mkdir(dir.c_str(), 0700);
  if (!claim(dir)) return 1;
  note_start(dir, argc, argv);
  protocol::SysfsDevice device;
  device.port.active = 1;
  device.port.gid_count = 1;
  std::strcpy(device.port.gids[0].interface, "lo");
  if (!protocol::write_sysfs_tree(protocol::sysfs_tree_path(dir), device)) return 1;
  if (!listen_in(dir)) return 1;
  ::dprintf(ready_fd, "ready %s\n", dir.c_str());
  ::close(ready_fd);
  ::alarm(60);
  ::pause();
}
