#pragma once

#include <memory>
#include <vector>

#include "sim/event_queue.h"
#include "sim/faults.h"
#include "sim/link.h"
#include "sim/random.h"
#include "sim/scenario.h"
#include "sim/trace.h"

namespace flexins::sim {

class HostilePackets;

/// Why a frame did not arrive without any fault having been asked for.
struct FabricCounters {
  uint64_t frames = 0;     ///< handed in by hosts
  uint64_t delivered = 0;  ///< arrived at a host
  uint64_t delivered_bytes = 0;
  uint64_t tail_drops = 0;
  uint64_t ecn_marked = 0;
  uint64_t pauses = 0;  ///< PFC
};

/// The network: one switch, or two leaves and several spines; links, queues, and what goes wrong
/// with packets on the way.
class Fabric final : public Actor, private Link::Listener {
 public:
  /// References outlive the fabric. `file` may be null.
  Fabric(EventQueue& events, const Scenario& scenario, FaultCounts& faults, Trace& trace,
         FrameFile* file);
  ~Fabric() override;

  static wire::IpAddress address(uint32_t host, bool v6);
  /// Whose address it is; hosts() when nobody's.
  [[nodiscard]] uint32_t host_of(const wire::IpAddress& address) const;
  [[nodiscard]] uint32_t hosts() const { return static_cast<uint32_t>(ports_.size()); }

  /// Has `tap` (or nobody) see frames that hosts send.
  void tap(HostilePackets* tap) { tap_ = tap; }
  void attach(uint32_t host, Node& port) { ports_[host] = &port; }
  [[nodiscard]] bool has_room(uint32_t host, uint32_t bytes) const;
  [[nodiscard]] FramePool& pool() { return pool_; }
  /// Takes a frame of `frame->from_host` on its way, or away.
  void send(Frame* frame);
  /// As send(), past all faults.
  void inject(Frame* frame);
  /// The host is not there to take it, or its buffer is full. Ends the frame.
  void lose(Frame* frame, const char* why);
  /// The host has taken it.
  void deliver(const Frame& frame, base::TimeNs now);

  /// A fault of a kind that lasts a while begins now.
  void strike(FaultKind kind);
  /// From now on nothing goes wrong.
  void heal();

  /// How often something was lost, late, doubled or changed between two hosts, either way: what
  /// can cost a requester a retry.
  [[nodiscard]] uint64_t disturbances(uint32_t a, uint32_t b) const {
    return path(a, b).disturbances + path(b, a).disturbances;
  }
  void disturb(uint32_t from, uint32_t to) { ++path(from, to).disturbances; }
  /// A packet whose ICRC fits, yet not what was sent, has been let through between the two.
  [[nodiscard]] bool forged(uint32_t a, uint32_t b) const {
    return path(a, b).forged || path(b, a).forged;
  }
  [[nodiscard]] const FabricCounters& counters() const { return counters_; }
  [[nodiscard]] uint64_t ecn_marked() const;

  void on_event(uint64_t what, base::TimeNs now) override;

 private:
  struct Switch;
  struct Path {
    base::TimeNs partitioned_until = 0;
    base::TimeNs slow_until = 0;
    base::TimeNs slow_ns = 0;
    base::TimeNs small_until = 0;
    uint32_t largest_bytes = 0;
    uint32_t burst_left = 0;
    uint64_t disturbances = 0;
    bool forged = false;
  };
  enum class Fate : uint8_t { kGo, kLost, kHeld };

  [[nodiscard]] Path& path(uint32_t from, uint32_t to) { return paths_[from * hosts() + to]; }
  [[nodiscard]] const Path& path(uint32_t from, uint32_t to) const {
    return paths_[from * hosts() + to];
  }
  void build(const Scenario& scenario);
  Link& connect(Node& to, const LinkSettings& settings);
  [[nodiscard]] Fate judge(Frame& frame, Path& path);
  [[nodiscard]] bool loses(const Frame& frame, Path& path, FaultKind& why);
  void corrupt(Frame& frame, Path& path);
  void duplicate(const Frame& frame, Path& path);
  void hold(Frame& frame, base::TimeNs wait_ns);
  void note_fault(FaultKind kind, const Frame& frame);
  void lose_by(FaultKind kind, Frame& frame);
  void enter(Frame* frame);
  void on_departure(Link& link, Frame& frame, base::TimeNs now) override;
  void leave_switch(Frame& frame);
  [[nodiscard]] Random& random(FaultKind kind) { return random_[static_cast<size_t>(kind)]; }

  EventQueue& events_;
  FaultPlan plan_;
  bool healed_ = false;
  bool lossless_;
  FaultCounts& faults_;
  Trace& trace_;
  FrameFile* file_;
  HostilePackets* tap_ = nullptr;
  FramePool pool_;
  FabricCounters counters_;
  std::vector<Random> random_;  ///< by fault
  std::vector<Node*> ports_;
  std::vector<Path> paths_;
  std::unique_ptr<Node> doorstep_;  ///< of all hosts
  std::vector<std::unique_ptr<Switch>> switches_;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<Link*> uplinks_;  ///< by host
};

}  // namespace flexins::sim
