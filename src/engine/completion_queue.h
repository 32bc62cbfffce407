#pragma once

#include "base/ids.h"
#include "engine/counters.h"
#include "engine/engine.h"
#include "engine/event_count.h"
#include "pipe/completion_ring.h"
#include "transport/interfaces.h"
#include "transport/timer_wheel.h"

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
    transport::TimerWheel* timers = nullptr;
    const base::TimeNs* now = nullptr;  ///< of the step under way
    bool ignore_overrun = false;        ///< lose completions rather than fail
  };
  CompletionQueue(const Config& config, RingMemory ring, uint32_t depth)
      : config_(config), ring_(ring.base, depth) {
    timer_.owner = this;
  }

  /// Writes one completion of a QP that is in its `generation`. After an overrun the CQ takes no
  /// more (IBTA 11.6.3.1).
  void push(const transport::Completion& completion, uint32_t generation) noexcept;

  /// Goes on in another ring. EINVAL when more than `wanted` (<= depth) completions wait, EIO after
  /// an overrun.
  base::Result<void> move_to(RingMemory ring, uint32_t depth, uint32_t wanted);
  /// Events wait for `count` completions or `period` since the first of them, errors excepted;
  /// a period of 0: they do not wait.
  void moderate(uint32_t count, base::TimeNs period_ns) noexcept;
  /// The period is over.
  void on_deadline() noexcept { send_event(true); }

  /// The CQ goes: see AsyncEvents::settle.
  [[nodiscard]] EventsRead settle_events() const noexcept;

  [[nodiscard]] base::CqId id() const { return config_.id; }
  [[nodiscard]] base::ChannelId channel() const { return config_.channel; }
  [[nodiscard]] bool overrun() const { return overrun_; }

  uint32_t users = 0;  ///< QPs attached, once per direction

 private:
  void fail() noexcept;
  void announce(bool solicited, bool failed) noexcept;
  void send_event(bool solicited) noexcept;

  Config config_;
  pipe::CompletionProducer ring_;
  uint32_t events_delivered_ = 0;
  AsyncEvents async_events_;
  bool overrun_ = false;
  uint32_t moderation_count_ = 0;
  base::TimeNs moderation_period_ns_ = 0;
  uint32_t held_back_ = 0;  ///< completions whose event waits
  transport::TimerNode timer_;
};

}  // namespace flexins::engine
