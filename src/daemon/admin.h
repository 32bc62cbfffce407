#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "daemon/tenants.h"

namespace flexins::daemon {

/// What the admin socket can ask of an engine.
class AdminBackend {
 public:
  using Json = nlohmann::json;
  virtual ~AdminBackend() = default;
  /// `viewer`: only what belongs to this user; none: everything.
  virtual Json status(std::optional<uid_t> viewer) = 0;
  /// `set`: null to show, false to switch all faults off, else an object of settings. Answers the
  /// faults in force. Errors: EINVAL naming the key.
  virtual base::Result<Json> faults(const Json& set) = 0;
  /// Errors: EBUSY while a capture runs, and what opening the file says.
  virtual base::Result<Json> start_capture(const std::string& file) = 0;
  /// Errors: ENOENT when none runs.
  virtual base::Result<Json> stop_capture() = 0;
  /// The engine drains and ends.
  virtual void stop() = 0;
};

/// The language of the admin socket: a JSON object per line and way,
///
///     {"command": "ping"}
///     {"command": "status"}
///     {"command": "faults"}                       show
///     {"command": "faults", "set": {"loss": 0.01, "seed": 7}}
///     {"command": "faults", "set": false}         off
///     {"command": "capture", "start": "/absolute/file.pcapng"}
///     {"command": "capture", "stop": true}
///     {"command": "stop"}
///
/// and {"error": "…", "errno": n} where something is wrong. Everybody who reaches the socket may
/// ping and see what is his own; the rest is for root and the engine's user.
class Admin {
 public:
  Admin(AdminBackend& backend, uid_t owner) : backend_(backend), owner_(owner) {}

  /// Never throws; whatever `line` holds is answered.
  [[nodiscard]] nlohmann::json answer(std::string_view line, const PeerCredentials& peer);

 private:
  base::Result<nlohmann::json> run(const nlohmann::json& request, const PeerCredentials& peer);
  base::Result<nlohmann::json> run_trusted(const std::string& command,
                                           const nlohmann::json& request);
  base::Result<nlohmann::json> capture(const nlohmann::json& request);

  AdminBackend& backend_;
  uid_t owner_;
};

}  // namespace flexins::daemon
