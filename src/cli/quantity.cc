#include "cli/quantity.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>

#include <fmt/format.h>

namespace flexins::cli {
namespace {

/// A number that is not negative and the text behind it, blanks left out.
struct Parsed {
  double number = 0;
  std::string unit;
};

base::Result<Parsed> parse_number(const std::string& text) {
  Parsed parsed;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, parsed.number);
  if (error != std::errc() || !(parsed.number >= 0) || parsed.number > 1e15) {
    return base::Error{EINVAL, fmt::format("'{}' is not a number", text)};
  }
  for (const char* at = rest; at != end; ++at) {
    if (*at != ' ') parsed.unit += *at;
  }
  return parsed;
}

}  // namespace

base::Result<double> parse_share(const std::string& text) {
  auto parsed = parse_number(text);
  if (!parsed) return parsed.error();
  const double share = parsed->unit == "%" ? parsed->number / 100 : parsed->number;
  if ((!parsed->unit.empty() && parsed->unit != "%") || share > 1) {
    return base::Error{EINVAL, fmt::format("'{}': want 0% to 100%, or 0 to 1", text)};
  }
  return share;
}

base::Result<base::TimeNs> parse_duration(const std::string& text, base::TimeNs unit) {
  struct Unit {
    const char* name;
    base::TimeNs ns;
  };
  static constexpr std::array<Unit, 6> kUnits = {{{"ns", 1},
                                                  {"us", base::kMicrosecond},
                                                  {"ms", base::kMillisecond},
                                                  {"s", base::kSecond},
                                                  {"m", 60 * base::kSecond},
                                                  {"h", 3600 * base::kSecond}}};
  auto parsed = parse_number(text);
  if (!parsed) return parsed.error();
  bool known = parsed->unit.empty();
  for (const Unit& candidate : kUnits) {
    if (parsed->unit != candidate.name) continue;
    unit = candidate.ns;
    known = true;
  }
  const double ns = parsed->number * static_cast<double>(unit);
  if (!known || ns > 9e18) {
    return base::Error{EINVAL, fmt::format("'{}': want a time like 5us, 10ms, 2s or 1m", text)};
  }
  return static_cast<base::TimeNs>(ns);
}

std::string format_bytes(uint64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_seconds(uint64_t seconds) {
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 2 * 3600) return fmt::format("{} min", seconds / 60);
  if (seconds < 48 * 3600) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} d", seconds / 86'400);
}

}  // namespace flexins::cli
