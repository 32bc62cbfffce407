#include "daemon/fault_json.h"

#include <array>
#include <cerrno>
#include <utility>

namespace flexins::daemon {
namespace {

using Json = nlohmann::json;
using port::FaultConfig;

constexpr double kLongestDelayUs = 10e6;

constexpr std::array<std::pair<const char*, double FaultConfig::*>, 4> kShares = {
    {{"loss", &FaultConfig::loss},
     {"duplicate", &FaultConfig::duplication},
     {"reorder", &FaultConfig::reordering},
     {"corrupt", &FaultConfig::corruption}}};

base::Error wrong(const std::string& key, const char* want) {
  return base::Error{EINVAL, "faults: \"" + key + "\" wants " + want};
}

base::Result<void> apply(FaultConfig& config, const std::string& key, const Json& value) {
  if (key == "seed") {
    if (!value.is_number_integer() || value < 0) return wrong(key, "a whole number");
    config.seed = value.get<uint64_t>();
    return {};
  }
  const double number = value.is_number() ? value.get<double>() : -1;
  if (key == "delay_us") {
    if (!(number >= 0 && number <= kLongestDelayUs)) return wrong(key, "0 to 10000000");
    config.delay = number > 0 ? 1 : 0;
    config.delay_min_ns = config.delay_max_ns =
        static_cast<base::TimeNs>(number * base::kMicrosecond);
    return {};
  }
  for (const auto& [name, field] : kShares) {
    if (key != name) continue;
    if (!(number >= 0 && number <= 1)) return wrong(key, "a share from 0 to 1");
    config.*field = number;
    return {};
  }
  return base::Error{EINVAL, "faults: there is no \"" + key + "\""};
}

}  // namespace

Json faults_to_json(const FaultConfig& config) {
  Json json = {{"seed", config.seed}};
  for (const auto& [name, field] : kShares) json[name] = config.*field;
  json["delay_us"] =
      config.delay > 0 ? static_cast<double>(config.delay_max_ns) / base::kMicrosecond : 0.0;
  return json;
}

base::Result<FaultConfig> apply_faults(FaultConfig config, const Json& set) {
  if (set.is_boolean() && !set.get<bool>()) return FaultConfig{};
  if (!set.is_object()) return base::Error{EINVAL, "faults: \"set\" wants an object or false"};
  for (const auto& [key, value] : set.items()) {
    if (auto applied = apply(config, key, value); !applied) return applied.error();
  }
  return config;
}

}  // namespace flexins::daemon
