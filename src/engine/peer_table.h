#pragma once

#include <cstring>
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
  struct Hash {
    size_t operator()(const wire::IpAddress& a) const {
      uint64_t halves[2];
      std::memcpy(halves, a.bytes.data(), sizeof halves);
      return absl::HashOf(halves[0], halves[1]);
    }
  };
  absl::flat_hash_map<wire::IpAddress, std::unique_ptr<Peer>, Hash> peers_;
};

}  // namespace flexins::engine
