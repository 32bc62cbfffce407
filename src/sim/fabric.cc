#include "sim/fabric.h"

#include "base/check.h"

namespace flexins::sim {

namespace {

/// A switch has upstream stop when this much that came over one link waits, and go on below half.
constexpr uint64_t kPauseBytes = 128 * 1024;
constexpr uint32_t kLeaves = 2;

uint64_t flow_hash(const Frame& frame) {
  uint64_t hash = frame.source_port;
  for (const uint8_t byte : frame.source.bytes) hash = hash * 131 + byte;
  for (const uint8_t byte : frame.destination.bytes) hash = hash * 131 + byte;
  return Random::mix(hash);
}

}  // namespace

/// Forwards by destination host, over one of the links that lead there.
struct Fabric::Switch final : Node {
  explicit Switch(Fabric& owner) : fabric(owner) {}
  void arrive(Frame* frame, Link& over, base::TimeNs) override {
    if (over.is_cut) return fabric.lose_by(FaultKind::kFlap, *frame);
    frame->ingress = &over;
    over.waiting_downstream_bytes += frame->link_bytes();
    if (fabric.lossless_ && !over.told_to_pause && over.waiting_downstream_bytes > kPauseBytes) {
      over.told_to_pause = true;
      ++fabric.counters_.pauses;
      over.pause_later(true);
    }
    std::vector<Link*>& ways = ways_to[frame->to_host];
    Link& way = *ways[ways.size() == 1 ? 0 : flow_hash(*frame) % ways.size()];
    if (way.offer(frame)) return;
    fabric.leave_switch(*frame);
    ++fabric.counters_.tail_drops;
    fabric.lose(frame, "switch queue full");
  }
  Fabric& fabric;
  std::vector<std::vector<Link*>> ways_to;  ///< by host
};

Fabric::Fabric(EventQueue& events, const Scenario& scenario, FaultCounts& faults, Trace& trace,
               FrameFile* file)
    : events_(events),
      plan_(scenario.faults),
      lossless_(scenario.lossless),
      faults_(faults),
      trace_(trace),
      file_(file),
      ports_(scenario.hosts),
      paths_(size_t{scenario.hosts} * scenario.hosts) {
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    random_.push_back(
        Random(scenario.seed).fork(to_string(static_cast<FaultKind>(kind))).fork("network"));
  }
  build(scenario);
}

Fabric::~Fabric() = default;

wire::IpAddress Fabric::address(uint32_t host, bool v6) {
  const auto number = static_cast<uint8_t>(host + 1);
  if (v6) {
    const uint8_t octets[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number};
    return wire::IpAddress::from_v6(octets);
  }
  const uint8_t octets[4] = {10, 0, 0, number};
  return wire::IpAddress::from_v4(octets);
}

uint32_t Fabric::host_of(const wire::IpAddress& given) const {
  const uint32_t host = given.bytes[15] - 1u;
  const bool known =
      host < hosts() && (given == address(host, false) || given == address(host, true));
  return known ? host : hosts();
}

Link& Fabric::connect(Node& to, const LinkSettings& settings) {
  links_.push_back(std::make_unique<Link>(events_, to, settings));
  links_.back()->listener = this;
  return *links_.back();
}

/// Frames that arrive at a host go through here, for the ports come later.
namespace {

struct Doorstep final : Node {
  Doorstep(Fabric& owner, std::vector<Node*>& ports) : fabric(owner), to(ports) {}
  void arrive(Frame* frame, Link& over, base::TimeNs now) override {
    if (over.is_cut) {
      fabric.lose(frame, "link down");
      return;
    }
    to[frame->to_host]->arrive(frame, over, now);
  }
  Fabric& fabric;
  std::vector<Node*>& to;
};

}  // namespace

void Fabric::build(const Scenario& scenario) {
  LinkSettings inner = scenario.link;
  if (lossless_) inner.queue_bytes = UINT64_MAX / 2;
  LinkSettings outer = scenario.link;
  outer.ecn_bytes = 0;
  doorstep_ = std::make_unique<Doorstep>(*this, ports_);
  const bool one = scenario.topology == Topology::kOneSwitch;
  const uint32_t leaves = one ? 1 : kLeaves;
  for (uint32_t i = 0; i < leaves + (one ? 0 : scenario.spines); ++i) {
    switches_.push_back(std::make_unique<Switch>(*this));
    switches_.back()->ways_to.resize(hosts());
  }
  for (uint32_t host = 0; host < hosts(); ++host) {
    Switch& leaf = *switches_[host % leaves];
    uplinks_.push_back(&connect(leaf, outer));
    leaf.ways_to[host] = {&connect(*doorstep_, inner)};
  }
  if (one) return;
  for (uint32_t leaf = 0; leaf < leaves; ++leaf) {
    for (uint32_t spine = 0; spine < scenario.spines; ++spine) {
      Link& up = connect(*switches_[leaves + spine], inner);
      Link& down = connect(*switches_[leaf], inner);
      for (uint32_t host = 0; host < hosts(); ++host) {
        const bool here = host % leaves == leaf;
        (here ? switches_[leaves + spine] : switches_[leaf])
            ->ways_to[host]
            .push_back(here ? &down : &up);
      }
    }
  }
}

bool Fabric::has_room(uint32_t host, uint32_t bytes) const {
  return uplinks_[host]->has_room(bytes);
}

uint64_t Fabric::ecn_marked() const {
  uint64_t marked = 0;
  for (const auto& link : links_) marked += link->marked();
  return marked;
}

void Fabric::enter(Frame* frame) {
  frame->ingress = nullptr;
  if (uplinks_[frame->from_host]->offer(frame)) return;
  ++counters_.tail_drops;
  lose(frame, "sender queue full");
}

void Fabric::inject(Frame* frame) {
  frame->to_host = static_cast<uint16_t>(host_of(frame->destination));
  if (frame->to_host == hosts()) return pool_.give(frame);
  enter(frame);
}

void Fabric::on_departure(Link&, Frame& frame, base::TimeNs) { leave_switch(frame); }

void Fabric::leave_switch(Frame& frame) {
  Link* link = frame.ingress;
  if (link == nullptr) return;
  frame.ingress = nullptr;
  link->waiting_downstream_bytes -= frame.link_bytes();
  if (link->told_to_pause && link->waiting_downstream_bytes < kPauseBytes / 2) {
    link->told_to_pause = false;
    link->pause_later(false);
  }
}

void Fabric::lose(Frame* frame, const char* why) {
  disturb(frame->from_host, frame->to_host);
  if (file_ != nullptr) file_->write(*frame, events_.now(), true, why);
  trace_.note(events_.now(), frame->from_host, frame->to_host, frame->length);
  pool_.give(frame);
}

void Fabric::deliver(const Frame& frame, base::TimeNs now) {
  ++counters_.delivered;
  counters_.delivered_bytes += frame.length;
  trace_.note_frame(frame, now);
  if (file_ != nullptr) file_->write(frame, now, true, "");
}

void Fabric::on_event(uint64_t what, base::TimeNs) {
  // The number of a link that is up again, or a frame that was held.
  if (what < links_.size()) {
    links_[what]->is_cut = false;
  } else {
    enter(reinterpret_cast<Frame*>(what));
  }
}

}  // namespace flexins::sim
