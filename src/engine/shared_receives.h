#pragma once

#include "base/ids.h"
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
  };
  SharedReceives(const Config& config, pipe::ReceiveConsumer ring) : config_(config), ring_(ring) {}

  [[nodiscard]] bool take(transport::ReceiveWqe& out) noexcept override;

  /// One kSrqLimitReached when fewer than `limit` entries are left; 0: none.
  void arm(uint32_t limit) { limit_ = limit; }
  [[nodiscard]] uint32_t limit() const { return limit_; }
  [[nodiscard]] base::PdId pd() const { return config_.pd; }

  uint32_t users = 0;  ///< QPs

 private:
  Config config_;
  pipe::ReceiveConsumer ring_;
  uint32_t limit_ = 0;
};

}  // namespace flexins::engine
