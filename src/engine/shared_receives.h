#pragma once

#include "base/ids.h"
#include "base/result.h"
#include "engine/engine.h"
#include "pipe/receive_ring.h"
#include "transport/interfaces.h"

namespace flexins::engine {

struct Context;

/// A shared receive queue: one ring for all QPs that were created with it. An entry is copied when
/// a message needs it, and its place given back at once, so that it does not matter which QP
/// completes it when.
class SharedReceives final : public transport::ReceiveSource {
 public:
  struct Config {
    Context* context = nullptr;
    base::PdId pd;
    uint64_t cookie = 0;
    uint32_t max_sge = 1;
  };
  SharedReceives(const Config& config, pipe::ReceiveConsumer ring) : config_(config), ring_(ring) {}

  [[nodiscard]] bool take(transport::ReceiveWqe& out) noexcept override;

  /// One kSrqLimitReached when fewer than `limit` entries are left; 0: none.
  void arm(uint32_t limit) { limit_ = limit; }
  [[nodiscard]] uint32_t limit() const { return limit_; }
  /// Goes on in another ring. EINVAL when more than `max_wr` (<= depth) entries wait, or are the
  /// limit.
  base::Result<void> move_to(RingMemory ring, uint32_t depth, uint32_t max_wr);
  [[nodiscard]] uint32_t max_sge() const { return config_.max_sge; }
  [[nodiscard]] base::PdId pd() const { return config_.pd; }

  uint32_t users = 0;  ///< QPs

 private:
  Config config_;
  pipe::ReceiveConsumer ring_;
  uint32_t limit_ = 0;
};

}  // namespace flexins::engine
