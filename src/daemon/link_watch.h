#pragma once

#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "base/verbs_types.h"
#include "engine/engine.h"
#include "protocol/messages.h"

namespace flexins::daemon {

/// Watches the network interfaces of the engine's addresses through the kernel's routing socket.
class LinkWatch {
 public:
  /// Errors: what socket and bind say.
  base::Result<void> open();
  /// Readable when something about links or addresses has changed.
  [[nodiscard]] int descriptor() const { return socket_.get(); }
  /// Takes what was said; all that matters is that something was.
  void drain();

 private:
  base::UniqueFd socket_;
};

/// Looks at the interfaces anew: is one of them up, and is every address still there?
struct LinkState {
  bool active = false;
  uint32_t addresses_present = 0;  ///< bit per address
};
[[nodiscard]] LinkState look_at_links(const std::vector<engine::LocalAddress>& addresses);

/// What programs are told when `before` has become `after`.
[[nodiscard]] std::vector<base::AsyncEvent> link_events(const LinkState& before,
                                                        const LinkState& after);

}  // namespace flexins::daemon
