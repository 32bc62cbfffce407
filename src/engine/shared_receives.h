#pragma once

#include "base/ids.h"
#include "base/result.h"
#include "engine/engine.h"
#include "engine/event_count.h"
#include "pipe/receive_ring.h"
#include "transport/interfaces.h"

namespace flexins::engine {

class CompletionQueue;
class XrcDomain;
struct Context;

/// A shared receive queue: one ring for all QPs that were created with it. An entry is copied when
/// a message needs it, and its place given back at once, so that it does not matter which QP
/// completes it when. That of an XRC domain completes into a queue of its own, for whatever target
/// has received.
class SharedReceives final : public transport::ReceiveSource, public transport::CompletionSink {
 public:
  struct Config {
    Context* context = nullptr;
    base::PdId pd;
    uint64_t cookie = 0;
    uint32_t max_sge = 1;
    // XRC only.
    CompletionQueue* cq = nullptr;
    XrcDomain* domain = nullptr;
    base::XrcdId xrcd;  ///< the handle of `context` on the domain
  };
  SharedReceives(const Config& config, pipe::ReceiveConsumer ring) : config_(config), ring_(ring) {}

  [[nodiscard]] bool take(transport::ReceiveWqe& out) noexcept override;
  void complete(const transport::Completion& completion) noexcept override;

  /// One kSrqLimitReached when fewer than `limit` entries are left; 0: none.
  void arm(uint32_t limit) { limit_ = limit; }
  [[nodiscard]] uint32_t limit() const { return limit_; }
  [[nodiscard]] const Config& config() const { return config_; }
  /// Goes on in another ring. EINVAL when more than `max_wr` (<= depth) entries wait, or are the
  /// limit.
  base::Result<void> move_to(RingMemory ring, uint32_t depth, uint32_t max_wr);
  [[nodiscard]] uint32_t max_sge() const { return config_.max_sge; }
  [[nodiscard]] base::PdId pd() const { return config_.pd; }
  /// The SRQ goes: see AsyncEvents::settle.
  [[nodiscard]] EventsRead settle_events() const noexcept;

  uint32_t users = 0;  ///< QPs

 private:
  Config config_;
  pipe::ReceiveConsumer ring_;
  uint32_t limit_ = 0;
  AsyncEvents events_;
};

}  // namespace flexins::engine
