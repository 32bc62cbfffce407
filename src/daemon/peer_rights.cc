#include "daemon/peer_rights.h"

#include <cstdlib>
#include <fstream>
#include <string>

namespace flexins::daemon {

bool may_use_raw_frames(const PeerCredentials& peer) {
  if (peer.uid == 0) return true;
  constexpr unsigned kCapNetRaw = 13;
  std::ifstream status("/proc/" + std::to_string(peer.pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("CapEff:", 0) != 0) continue;
    return (std::strtoull(line.c_str() + 7, nullptr, 16) >> kCapNetRaw & 1) != 0;
  }
  return false;
}

}  // namespace flexins::daemon
