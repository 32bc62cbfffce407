#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "daemon/tenants.h"

namespace flexins::daemon {

/// All that an operator can set; docs/configuration.md explains every key.
struct Config {
  std::string engine_name = "default";
  std::vector<std::string> addresses;  ///< empty: every address of this host that is up
  std::string runtime_dir;             ///< empty: the user's own
  int64_t exit_when_idle_s = -1;       ///< after the last client has gone; < 0: never

  uint32_t workers = 1;
  bool spin = false;
  int cpu = -1;
  uint32_t idle_spin_us_max = 5;
  uint32_t idle_yield_us = 100;

  uint64_t peer_window_bytes = 512 * 1024;
  uint64_t receive_buffer_bytes = 0;  ///< per socket; 0: what the system gives
  uint32_t read_chunk_bytes = 64 * 1024;

  bool neighbours = true;            ///< look for engines of this machine
  std::string neighbours_directory;  ///< empty: `neighbours` in the runtime directory

  std::string log_level = "info";
  std::string log_file;  ///< empty: standard error; "auto": `log` in the engine's directory

  TenantLimits limits;
  uint32_t sessions_max = 1024;  ///< of all tenants together
};

/// Reads a TOML text on top of `config`. `origin` is its name in messages. Errors: EINVAL, the
/// message names origin, line and key.
base::Result<Config> apply_toml(Config config, std::string_view text, const std::string& origin);

/// apply_toml of a file. Errors: also what opening it says.
base::Result<Config> apply_file(Config config, const std::string& path);

/// What holds between values, whoever set them. Errors: EINVAL.
base::Result<void> check_config(const Config& config);

}  // namespace flexins::daemon
