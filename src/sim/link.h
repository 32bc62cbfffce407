#pragma once

#include <cstdint>
#include <deque>

#include "sim/event_queue.h"
#include "sim/frame.h"

namespace flexins::sim {

class Link;

/// What stands at the end of a link.
class Node {
 public:
  virtual ~Node() = default;
  /// `frame` is the node's from now on.
  virtual void arrive(Frame* frame, Link& over, base::TimeNs now) = 0;
};

struct LinkSettings {
  uint64_t bits_per_second = 25'000'000'000;
  base::TimeNs delay_ns = 1'000;
  uint64_t queue_bytes = 256 * 1024;  ///< what does not fit behind this is not taken
  uint64_t ecn_bytes = 0;  ///< frames that find more than this waiting are marked; 0: none
};

/// One direction of a cable with the queue in front of it. Frames leave in order, each for as long
/// as its bits take.
class Link final : public Actor {
 public:
  Link(EventQueue& events, Node& to, const LinkSettings& settings)
      : events_(events), to_(to), settings_(settings) {}

  /// Queues `frame`. False when the queue is full: it stays the caller's.
  [[nodiscard]] bool offer(Frame* frame);
  [[nodiscard]] bool has_room(uint32_t bytes) const {
    return queued_bytes_ + bytes <= settings_.queue_bytes;
  }
  /// Priority flow control: from now on nothing new leaves, or again.
  void pause(bool paused);
  /// As pause(), after as long as the word takes to come here.
  void pause_later(bool paused) { events_.after(settings_.delay_ns, *this, paused ? kPause : kGo); }

  void on_event(uint64_t what, base::TimeNs now) override;

  /// Cut: the frames that would arrive are lost (told by Node, see Fabric).
  bool is_cut = false;
  /// Bytes that came over this link and wait in the switch behind it.
  uint64_t waiting_downstream_bytes = 0;
  bool told_to_pause = false;

  [[nodiscard]] uint64_t marked() const { return marked_; }

  /// Told when a frame starts on its way, which makes room in the queue.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_departure(Link& link, Frame& frame, base::TimeNs now) = 0;
  };
  Listener* listener = nullptr;

 private:
  enum What : uint64_t { kSent, kPause, kGo, kFirstFrame };
  void start();

  EventQueue& events_;
  Node& to_;
  LinkSettings settings_;
  std::deque<Frame*> queue_;
  uint64_t queued_bytes_ = 0;
  uint64_t marked_ = 0;
  bool sending_ = false;
  bool paused_ = false;
};

}  // namespace flexins::sim
