#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sim/connection.h"
#include "sim/hostile.h"

namespace flexins::sim {

/// What a run came to.
struct Report {
  std::optional<Violation> violation;
  uint64_t trace_hash = 0;
  uint64_t operations = 0;  ///< posted
  WorkCounts work;
  FabricCounters fabric;
  FaultCounts faults;
  uint64_t connections = 0;
  base::TimeNs virtual_ns = 0;
};

/// Hosts, network and applications, and all that happens to them, from one scenario.
class World final : public Actor, public CmClient {
 public:
  /// `file`: null, or where frames are written; outlives the world.
  explicit World(const Scenario& scenario, FrameFile* file = nullptr);
  ~World() override;

  /// Faults and work for the scenario's duration; then, healed, until all is done and given back.
  Report run();

 private:
  void on_event(uint64_t what, base::TimeNs now) override;
  void on_cm_event(Host& host, const cm::Event& event) override;
  void schedule_fault(FaultKind kind);
  void strike(FaultKind kind);
  void run_until(base::TimeNs end);
  void run_to_the_end();
  void give_all_back();
  [[nodiscard]] Application& any_application(Random& random);
  [[nodiscard]] Report report();

  Scenario scenario_;
  EventQueue events_;
  FaultCounts faults_;
  Trace trace_;
  Fabric fabric_;
  Oracle oracle_;
  Surroundings around_;
  Pace pace_;
  bool healed_ = false;
  std::vector<Random> random_;                            ///< by fault
  std::vector<std::unique_ptr<Connection>> connections_;  ///< go after the engines, as hold rings
  std::vector<std::unique_ptr<Host>> hosts_;
  HostilePackets hostile_;
};

/// Runs one world.
[[nodiscard]] Report simulate(const Scenario& scenario, FrameFile* file = nullptr);

}  // namespace flexins::sim
