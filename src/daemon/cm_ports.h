#pragma once

#include <map>

#include "base/random.h"
#include "base/result.h"
#include "daemon/cm_objects.h"

namespace flexins::daemon {

/// Which ids hold which ports, per port space.
class CmPorts {
 public:
  /// `random` outlives this.
  explicit CmPorts(base::RandomSource& random) : random_(random) {}

  /// Gives `id` the port of `id.source`, or a free one when that is 0 (and writes it there).
  /// EADDRINUSE, EADDRNOTAVAIL (no free one).
  base::Result<void> take(CmId& id);
  void give_back(CmId& id);
  /// May `id`, which holds a port, listen there? EADDRINUSE.
  [[nodiscard]] base::Result<void> may_listen(const CmId& id) const;

 private:
  using Key = std::pair<uint16_t, uint16_t>;  ///< port space, port

  [[nodiscard]] bool is_free(const CmId& id, uint16_t port) const;

  base::RandomSource& random_;
  std::multimap<Key, CmId*> holders_;
};

}  // namespace flexins::daemon
