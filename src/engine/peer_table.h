#pragma once

#include <memory>

#include <absl/container/flat_hash_map.h>

#include "engine/queue_pair.h"
#include "wire/address.h"

namespace flexins::engine {

/// Peers by address. Entries are made and dropped on the control path.
class PeerTable {
 public:
  /// The entry for `address`, made with `limit_bytes` if it is new. Pair with release().
  Peer* acquire(const wire::IpAddress& address, uint64_t limit_bytes);
  void release(const wire::IpAddress& address);

 private:
  absl::flat_hash_map<wire::IpAddress, std::unique_ptr<Peer>> peers_;
};

}  // namespace flexins::engine
