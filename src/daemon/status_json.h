#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/cm_service.h"
#include "daemon/tenants.h"
#include "daemon/worker_thread.h"
#include "engine/engine.h"

namespace flexins::daemon {

/// One session, for the report.
struct SessionRow {
  base::ContextId context;
  PeerCredentials peer;
  std::string program;
  uint64_t events_dropped = 0;
};

/// A port, for the report.
struct PortRow {
  std::string name;
  std::vector<port::Counter> counters;
};

/// Everything that `flexins status` shows.
struct StatusInput {
  nlohmann::json engine;  ///< facts that stay: name, pid, version, addresses, …
  WorkerCounters worker;
  std::vector<PortRow> ports;
  std::vector<SessionRow> sessions;
  std::map<uid_t, TenantUse> tenants;
  CmCounts cm;
  engine::EngineInfo info;
};

/// The report. `viewer`: only what belongs to this user, and no counts of others.
nlohmann::json status_json(const StatusInput& input, std::optional<uid_t> viewer);

/// "192.0.2.1" or "2001:db8::1".
std::string gid_text(const base::Gid& gid);

}  // namespace flexins::daemon
