#include "daemon/cm_ports.h"

#include <cerrno>

namespace flexins::daemon {
namespace {

// As Linux gives them out.
constexpr uint16_t kFirstEphemeral = 32'768;
constexpr uint16_t kEphemeralPorts = 28'232;
constexpr int kTries = 1024;

}  // namespace

bool CmPorts::is_free(const CmId& id, uint16_t port) const {
  const auto [begin, end] = holders_.equal_range({id.port_space, port});
  for (auto at = begin; at != end; ++at) {
    const CmId& other = *at->second;
    if (&other == &id || !overlap(id.source, other.source)) continue;
    const bool shared =
        id.reuse_address && other.reuse_address && other.state != CmIdState::kListening;
    if (!shared) return false;
  }
  return true;
}

base::Result<void> CmPorts::take(CmId& id) {
  if (id.source.port != 0) {
    if (!is_free(id, id.source.port)) return base::Error{EADDRINUSE, "the port is taken"};
  } else {
    for (int i = 0; i < kTries && id.source.port == 0; ++i) {
      const auto port = static_cast<uint16_t>(kFirstEphemeral + random_.next() % kEphemeralPorts);
      if (is_free(id, port)) id.source.port = port;
    }
    if (id.source.port == 0) return base::Error{EADDRNOTAVAIL, "no port is free"};
  }
  holders_.emplace(Key{id.port_space, id.source.port}, &id);
  id.holds_port = true;
  return {};
}

void CmPorts::give_back(CmId& id) {
  if (!id.holds_port) return;
  id.holds_port = false;
  const auto [begin, end] = holders_.equal_range({id.port_space, id.source.port});
  for (auto at = begin; at != end; ++at) {
    if (at->second != &id) continue;
    holders_.erase(at);
    return;
  }
}

base::Result<void> CmPorts::may_listen(const CmId& id) const {
  const auto [begin, end] = holders_.equal_range({id.port_space, id.source.port});
  for (auto at = begin; at != end; ++at) {
    const CmId& other = *at->second;
    if (&other != &id && other.state == CmIdState::kListening && overlap(id.source, other.source)) {
      return base::Error{EADDRINUSE, "another id listens on this port"};
    }
  }
  return {};
}

}  // namespace flexins::daemon
