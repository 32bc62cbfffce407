#include "daemon/config.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <optional>
#include <sstream>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "protocol/runtime_dir.h"

namespace flexins::daemon {
namespace {

/// Stores a TOML value; says what was expected instead when it does not fit.
using Setter = std::function<std::optional<std::string>(const toml::node&, Config&)>;

struct Key {
  std::string_view table;
  std::string_view name;
  Setter set;
};

Setter text(std::string Config::*field) {
  return [field](const toml::node& node, Config& config) -> std::optional<std::string> {
    const auto value = node.value_exact<std::string>();
    if (!value) return "a string";
    config.*field = *value;
    return std::nullopt;
  };
}

Setter flag(bool Config::*field) {
  return [field](const toml::node& node, Config& config) -> std::optional<std::string> {
    const auto value = node.value_exact<bool>();
    if (!value) return "true or false";
    config.*field = *value;
    return std::nullopt;
  };
}

template <typename Number>
std::optional<std::string> store(const toml::node& node, Number& to, int64_t least) {
  const auto value = node.value_exact<int64_t>();
  const int64_t most = sizeof(Number) < 8 ? static_cast<int64_t>(std::numeric_limits<Number>::max())
                                          : std::numeric_limits<int64_t>::max();
  if (!value || *value < least || *value > most) {
    return fmt::format("a whole number from {} to {}", least, most);
  }
  to = static_cast<Number>(*value);
  return std::nullopt;
}

template <typename Number>
Setter number(Number Config::*field, int64_t least = 0) {
  return [=](const toml::node& node, Config& config) { return store(node, config.*field, least); };
}

template <typename Number>
Setter limit(Number TenantLimits::*field) {
  return
      [=](const toml::node& node, Config& config) { return store(node, config.limits.*field, 1); };
}

std::optional<std::string> store_addresses(const toml::node& node, Config& config) {
  const toml::array* list = node.as_array();
  if (list == nullptr) return "a list of strings";
  config.addresses.clear();
  for (const toml::node& element : *list) {
    const auto value = element.value_exact<std::string>();
    if (!value) return "a list of strings";
    config.addresses.push_back(*value);
  }
  return std::nullopt;
}

const std::vector<Key>& keys() {
  static const std::vector<Key> all = {
      {"engine", "name", text(&Config::engine_name)},
      {"engine", "addresses", store_addresses},
      {"engine", "runtime_dir", text(&Config::runtime_dir)},
      {"engine", "exit_when_idle_s", number(&Config::exit_when_idle_s, -1)},
      {"worker", "count", number(&Config::workers, 1)},
      {"worker", "spin", flag(&Config::spin)},
      {"worker", "cpu", number(&Config::cpu, -1)},
      {"worker", "idle_spin_us_max", number(&Config::idle_spin_us_max)},
      {"worker", "idle_yield_us", number(&Config::idle_yield_us)},
      {"network", "peer_window_bytes", number(&Config::peer_window_bytes, 8192)},
      {"network", "receive_buffer_bytes", number(&Config::receive_buffer_bytes)},
      {"network", "read_chunk_bytes", number(&Config::read_chunk_bytes, 4096)},
      {"neighbours", "enabled", flag(&Config::neighbours)},
      {"neighbours", "directory", text(&Config::neighbours_directory)},
      {"log", "level", text(&Config::log_level)},
      {"log", "file", text(&Config::log_file)},
      {"limits", "sessions", number(&Config::sessions_max, 1)},
      {"limits", "tenant_sessions", limit(&TenantLimits::sessions_max)},
      {"limits", "tenant_pds", limit(&TenantLimits::pds_max)},
      {"limits", "tenant_regions", limit(&TenantLimits::regions_max)},
      {"limits", "tenant_cqs", limit(&TenantLimits::cqs_max)},
      {"limits", "tenant_channels", limit(&TenantLimits::channels_max)},
      {"limits", "tenant_qps", limit(&TenantLimits::qps_max)},
      {"limits", "tenant_ring_bytes", limit(&TenantLimits::ring_bytes_max)},
  };
  return all;
}

class Reader {
 public:
  Reader(Config& config, const std::string& origin) : config_(config), origin_(origin) {}

  base::Result<void> read(const toml::table& document) {
    for (const auto& [table, node] : document) {
      const toml::table* entries = node.as_table();
      if (entries == nullptr) return wrong(table, node, "no such key outside a [table]");
      if (!known_table(table.str())) {
        return wrong(table, node, fmt::format("there is no table [{}]", table.str()));
      }
      for (const auto& [name, value] : *entries) {
        if (auto done = entry(table.str(), name, value); !done) return done;
      }
    }
    return {};
  }

 private:
  static bool known_table(std::string_view table) {
    for (const Key& key : keys()) {
      if (key.table == table) return true;
    }
    return false;
  }

  base::Result<void> entry(std::string_view table, const toml::key& name, const toml::node& value) {
    for (const Key& key : keys()) {
      if (key.table != table || key.name != name.str()) continue;
      const auto expected = key.set(value, config_);
      if (!expected) return {};
      return wrong(name, value, fmt::format("{}.{} must be {}", table, name.str(), *expected));
    }
    return wrong(name, value, fmt::format("there is no key {}.{}", table, name.str()));
  }

  base::Error wrong(const toml::key& key, const toml::node& node, const std::string& why) {
    const auto line =
        key.source().begin.line != 0 ? key.source().begin.line : node.source().begin.line;
    return base::Error{EINVAL, fmt::format("{}, line {}: '{}': {}", origin_, line, key.str(), why)};
  }

  Config& config_;
  const std::string& origin_;
};

}  // namespace

base::Result<Config> apply_toml(Config config, std::string_view text, const std::string& origin) {
  toml::table document;
  try {
    document = toml::parse(text, origin);
  } catch (const toml::parse_error& error) {
    return base::Error{EINVAL, fmt::format("{}, line {}: {}", origin, error.source().begin.line,
                                           error.description())};
  }
  if (auto read = Reader(config, origin).read(document); !read) return read.error();
  return config;
}

base::Result<Config> apply_file(Config config, const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  if (file) text << file.rdbuf();
  if (!file) {
    const int code = errno != 0 ? errno : EIO;
    return base::Error{code, fmt::format("cannot read {}: {}", path, std::strerror(code))};
  }
  return apply_toml(std::move(config), text.str(), path);
}

base::Result<void> check_config(const Config& config) {
  const auto wrong = [](std::string why) { return base::Error{EINVAL, std::move(why)}; };
  if (!protocol::valid_engine_name(config.engine_name)) {
    return wrong(fmt::format("engine name '{}': use 1 to 32 letters, digits, '-', '_' or '.'",
                             config.engine_name));
  }
  if (config.workers != 1) {
    return wrong(
        fmt::format("{} workers: this version runs one worker per engine; start further "
                    "engines (--engine NAME) on other addresses instead",
                    config.workers));
  }
  if (!config.runtime_dir.empty() && config.runtime_dir.front() != '/') {
    return wrong(fmt::format("runtime directory '{}' is not an absolute path", config.runtime_dir));
  }
  if (!config.neighbours_directory.empty() && config.neighbours_directory.front() != '/') {
    return wrong(fmt::format("neighbours' directory '{}' is not an absolute path",
                             config.neighbours_directory));
  }
  for (const char* level : {"debug", "info", "warn", "error", "off"}) {
    if (config.log_level == level) return {};
  }
  return wrong(
      fmt::format("log level '{}': one of debug, info, warn, error, off", config.log_level));
}

}  // namespace flexins::daemon
