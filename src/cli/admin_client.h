#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "base/unique_fd.h"

namespace flexins::cli {

/// A connection to the admin socket of a running engine.
class AdminClient {
 public:
  /// The engine called `name` of this user, or root's. Errors: ENOENT when none runs, with what to
  /// do about it; EACCES; EINVAL for a bad name.
  static base::Result<AdminClient> connect(const std::string& name);

  /// Errors: what the engine answered, or ECONNRESET when it has gone.
  base::Result<nlohmann::json> request(const nlohmann::json& command);

  /// Blocks until the engine has closed the connection, `timeout_ms` at most. False: it has not.
  [[nodiscard]] bool wait_for_end(int timeout_ms);

  [[nodiscard]] const std::string& engine_dir() const { return engine_dir_; }

 private:
  AdminClient(base::UniqueFd socket, std::string engine_dir)
      : socket_(std::move(socket)), engine_dir_(std::move(engine_dir)) {}

  base::Result<std::string> read_line();

  base::UniqueFd socket_;
  std::string engine_dir_;
  std::string input_;
};

}  // namespace flexins::cli
