#include "cli/fault_settings.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "cli/quantity.h"

namespace flexins::cli {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 4> kShares = {"loss", "duplicate", "reorder", "corrupt"};

base::Result<uint64_t> parse_seed(const std::string& text) {
  uint64_t seed = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, seed);
  if (error != std::errc() || rest != end) {
    return base::Error{EINVAL, fmt::format("'{}' is not a whole number", text)};
  }
  return seed;
}

base::Result<void> add_setting(Json& to, const std::string& name, const std::string& value) {
  if (std::find(kShares.begin(), kShares.end(), name) != kShares.end()) {
    auto share = parse_share(value);
    if (!share) return share.error();
    to[name] = *share;
  } else if (name == "delay") {
    auto delay = parse_duration(value, base::kMicrosecond);
    if (!delay) return delay.error();
    to["delay_us"] = static_cast<double>(*delay) / base::kMicrosecond;
  } else if (name == "seed") {
    auto seed = parse_seed(value);
    if (!seed) return seed.error();
    to["seed"] = *seed;
  } else {
    return base::Error{EINVAL, "there are loss, duplicate, reorder, corrupt, delay and seed"};
  }
  return {};
}

}  // namespace

base::Result<Json> parse_fault_settings(const std::vector<std::string>& settings) {
  Json parsed = Json::object();
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos) {
      return base::Error{EINVAL, fmt::format("'{}': want NAME=VALUE, like loss=1%", setting)};
    }
    auto added = add_setting(parsed, setting.substr(0, equals), setting.substr(equals + 1));
    if (!added) return base::Error{EINVAL, fmt::format("{}: {}", setting, added.error().message)};
  }
  return parsed;
}

std::string format_faults(const Json& faults) {
  std::string out;
  for (const std::string_view name : kShares) {
    const double share = faults.value(std::string(name), 0.0);
    if (share > 0) out += fmt::format("{:<10} {:g} %\n", name, share * 100);
  }
  const double delay_us = faults.value("delay_us", 0.0);
  if (delay_us > 0) out += fmt::format("{:<10} {:g} us\n", "delay", delay_us);
  if (out.empty()) return "no faults are injected\n";
  if (faults.contains("seed")) out += fmt::format("{:<10} {}\n", "seed", faults["seed"].dump());
  return out;
}

}  // namespace flexins::cli
