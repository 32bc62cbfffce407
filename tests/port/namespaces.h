#pragma once

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "base/unique_fd.h"

/// Network namespaces of our own, for tests that need real interfaces. Root only.

namespace flexins::port::testing {

/// Runs `body` in a thread that may change its network namespace without harm to the others.
template <typename Body>
void in_own_thread(Body body) {
  std::thread(body).join();
}

/// Two namespaces joined by a veth pair: "left" has 10.77.0.1 and fd77::1, "right" has .2 and ::2.
class VethPair {
 public:
  /// To be called in a thread of its own. `mtu_bytes` of both ends; `segmenting`: datagrams are cut
  /// before they cross, as a network card would.
  VethPair(unsigned mtu_bytes, bool segmenting) {
    left_ = fresh();
    right_ = fresh();
    const std::string mtu = std::to_string(mtu_bytes);
    const std::string gso = segmenting ? " gso_max_segs 1" : "";
    ok_ = left_.valid() && right_.valid() && enter_left() &&
          run("ip link add left type veth peer name right netns " + path(right_)) &&
          run("ip link set left mtu " + mtu + gso +
              " up && ip addr add 10.77.0.1/24 dev left && "
              "ip addr add fd77::1/64 dev left nodad") &&
          enter_right() &&
          run("ip link set right mtu " + mtu + gso +
              " up && ip addr add 10.77.0.2/24 dev right && "
              "ip addr add fd77::2/64 dev right nodad");
  }

  [[nodiscard]] bool ok() const { return ok_; }
  bool enter_left() const { return setns(left_.get(), CLONE_NEWNET) == 0; }
  bool enter_right() const { return setns(right_.get(), CLONE_NEWNET) == 0; }
  static bool run(const std::string& command) {
    return std::system((command + " 2>/dev/null").c_str()) == 0;
  }

 private:
  static base::UniqueFd fresh() {
    if (unshare(CLONE_NEWNET) != 0) return {};
    run("ip link set lo up");
    return base::UniqueFd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }
  static std::string path(const base::UniqueFd& fd) {
    return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd.get());
  }

  base::UniqueFd left_, right_;
  bool ok_ = false;
};

}  // namespace flexins::port::testing
