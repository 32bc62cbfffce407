#include "engine/peer_table.h"

#include "base/check.h"

namespace flexins::engine {

Peer* PeerTable::acquire(const wire::IpAddress& address, uint64_t limit_bytes) {
  auto& slot = peers_[address];
  if (!slot) {
    slot = std::make_unique<Peer>();
    slot->window.limit_bytes = limit_bytes;
  }
  ++slot->users;
  return slot.get();
}

void PeerTable::release(const wire::IpAddress& address) {
  const auto it = peers_.find(address);
  FLEXINS_CHECK(it != peers_.end() && it->second->users > 0);
  if (--it->second->users == 0) {
    FLEXINS_CHECK(it->second->waiting.empty());
    peers_.erase(it);
  }
}

}  // namespace flexins::engine
