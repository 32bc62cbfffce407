#pragma once

#include "base/ids.h"
#include "engine/counters.h"
#include "engine/engine.h"
#include "pipe/completion_ring.h"
#include "transport/interfaces.h"

namespace flexins::engine {

/// A CQ: the engine's end of a completion ring, and the events it owes.
class CompletionQueue {
 public:
  struct Config {
    base::CqId id;
    uint64_t cookie = 0;
    base::ChannelId channel;  ///< value 0: none
    EventSink* events = nullptr;
    EngineCounters* counters = nullptr;
  };
  CompletionQueue(const Config& config, RingMemory ring, uint32_t depth)
      : config_(config), ring_(ring.base, depth) {}

  /// Writes one completion of a QP that is in its `generation`. After an overrun the CQ takes no
  /// more (IBTA 11.6.3.1).
  void push(const transport::Completion& completion, uint32_t generation) noexcept;

  [[nodiscard]] base::CqId id() const { return config_.id; }
  [[nodiscard]] base::ChannelId channel() const { return config_.channel; }
  [[nodiscard]] bool overrun() const { return overrun_; }

  uint32_t users = 0;  ///< QPs attached, once per direction

 private:
  void fail() noexcept;

  Config config_;
  pipe::CompletionProducer ring_;
  bool overrun_ = false;
};

}  // namespace flexins::engine
