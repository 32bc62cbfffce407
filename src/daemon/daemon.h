#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/random.h"
#include "daemon/admin.h"
#include "daemon/admin_server.h"
#include "daemon/cm_bridge.h"
#include "daemon/cm_server.h"
#include "daemon/config.h"
#include "daemon/engine_dir.h"
#include "daemon/event_loop.h"
#include "daemon/link_watch.h"
#include "daemon/neighbours.h"
#include "daemon/port_stack.h"
#include "daemon/session_server.h"
#include "daemon/windows.h"
#include "daemon/worker_thread.h"
#include "engine/engine.h"

namespace flexins::daemon {

/// One engine with everything around it: the wiring, and the control thread.
class Daemon final : private AdminBackend {
 public:
  /// Claims its directory, opens ports and sockets, starts the worker. SIGTERM and SIGINT must be
  /// blocked in the caller, the only thread. Errors: sentences for the operator.
  static base::Result<std::unique_ptr<Daemon>> start(const Config& config);
  ~Daemon() override;

  /// Serves until a signal, a stop from the admin socket, or idleness ends it.
  void run();

  [[nodiscard]] const std::string& directory() const { return dir_.path(); }

 private:
  enum class Phase : uint8_t { kServing, kDraining, kEnded };

  Daemon(const Config& config, EngineDir dir);

  base::Result<void> open_ports();
  void start_worker();
  void find_neighbours(const std::string& runtime_dir);
  base::Result<void> open_sockets();
  void watch_signals();
  base::Result<void> show_device();
  void watch_links();
  void on_link_change();

  void on_signal();
  void begin_draining(const char* why);
  /// Does what is due, and returns how long nothing will be.
  base::TimeNs look_at_clock();
  base::TimeNs look_at_idleness(base::TimeNs now);
  base::TimeNs look_at_draining(base::TimeNs now);
  [[nodiscard]] bool has_work_under_way();

  Json status(std::optional<uid_t> viewer) override;
  base::Result<Json> faults(const Json& set) override;
  base::Result<Json> start_capture(const std::string& file) override;
  base::Result<Json> stop_capture() override;
  void stop() override;

  [[nodiscard]] Json engine_facts();

  Config config_;
  EngineDir dir_;
  base::SystemRandom random_;  ///< the worker's, once it runs
  std::vector<engine::LocalAddress> addresses_;
  std::unique_ptr<PortStack> ports_;
  CmBridge cm_bridge_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<WorkerThread> worker_;
  HostWindows windows_;
  SessionEnvironment environment_;
  EventLoop loop_;
  Admin admin_;
  Neighbours neighbours_;
  SessionServer sessions_;
  CmServer cm_server_;
  AdminServer admin_server_;
  base::UniqueFd signals_;
  LinkWatch link_watch_;
  LinkState links_;

  Phase phase_ = Phase::kServing;
  base::TimeNs started_ = 0;
  base::TimeNs idle_since_ = base::kNever;
  base::TimeNs drain_until_ = 0;
  std::string capture_file_;
};

}  // namespace flexins::daemon
