#include "cli/status_table.h"

#include <algorithm>
#include <functional>
#include <vector>

#include <fmt/format.h>

#include "cli/quantity.h"

namespace flexins::cli {
namespace {

using Json = nlohmann::json;

/// Columns as wide as their widest cell, two blanks between them.
class Table {
 public:
  explicit Table(std::vector<std::string> heads) { rows_.push_back(std::move(heads)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] bool empty() const { return rows_.size() == 1; }

  [[nodiscard]] std::string text() const {
    std::vector<size_t> widths(rows_.front().size());
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string out;
    for (const auto& row : rows_) {
      std::string line = " ";
      for (size_t i = 0; i < row.size(); ++i) line += fmt::format(" {:<{}} ", row[i], widths[i]);
      line.erase(line.find_last_not_of(' ') + 1);
      out += line + "\n";
    }
    return out;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

const Json& part(const Json& object, const char* name) {
  static const Json kNothing;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return found == object.end() ? kNothing : *found;
}

std::string text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() ? "-" : value.dump();
}

std::string text(const Json& object, const char* name) { return text(part(object, name)); }

uint64_t number(const Json& object, const char* name) {
  const Json& value = part(object, name);
  return value.is_number() ? value.get<uint64_t>() : 0;
}

std::string bytes(const Json& object, const char* name) {
  return part(object, name).is_number() ? format_bytes(number(object, name)) : "-";
}

std::string hex(const Json& object, const char* name) {
  return part(object, name).is_number() ? fmt::format("{:#x}", number(object, name)) : "-";
}

std::string section(const char* title, const Json& rows, std::vector<std::string> heads,
                    const std::function<std::vector<std::string>(const Json&)>& cells) {
  Table table(std::move(heads));
  for (const Json& row : rows) table.add(cells(row));
  if (table.empty()) return fmt::format("{}: none\n", title);
  return fmt::format("{} ({}):\n{}", title, rows.size(), table.text());
}

std::string engine_text(const Json& engine) {
  const Json& worker = part(engine, "worker");
  std::string out = fmt::format(
      "engine '{}': pid {}, FlexiNS {}, up {}, {} resident, worker {:.1f} s of CPU, slept {} "
      "times\n",
      text(engine, "name"), text(engine, "pid"), text(engine, "version"),
      format_seconds(number(engine, "uptime_s")), bytes(engine, "rss_bytes"),
      static_cast<double>(number(worker, "cpu_ms")) / 1000, number(worker, "sleeps"));
  Table addresses({"GID", "ADDRESS", "INTERFACE", "MTU"});
  size_t index = 0;
  for (const Json& row : part(engine, "addresses")) {
    addresses.add({std::to_string(index++), text(row, "address"), text(row, "interface"),
                   text(row, "mtu_bytes")});
  }
  out += addresses.text();
  if (part(engine, "faults").is_object()) {
    out += fmt::format("faults injected: {}\n", engine["faults"].dump());
  }
  if (part(engine, "capture").is_string()) {
    out += fmt::format("capturing to {}\n", text(engine, "capture"));
  }
  return out;
}

std::string objects_text(const Json& status) {
  std::string out = section(
      "tenants", part(status, "tenants"), {"UID", "SESSIONS", "QPS", "CQS", "REGIONS", "RINGS"},
      [](const Json& row) -> std::vector<std::string> {
        return {text(row, "uid"), text(row, "sessions"), text(row, "qps"),
                text(row, "cqs"), text(row, "regions"),  bytes(row, "ring_bytes")};
      });
  out += section("contexts", part(status, "contexts"),
                 {"CONTEXT", "PID", "UID", "PROGRAM", "PDS", "CQS", "QPS", "REGIONS"},
                 [](const Json& row) -> std::vector<std::string> {
                   return {text(row, "context"), text(row, "pid"),    text(row, "uid"),
                           text(row, "program"), text(row, "pds"),    text(row, "cqs"),
                           text(row, "qps"),     text(row, "regions")};
                 });
  if (const Json& cm = part(status, "rdma_cm"); cm.is_object()) {
    out += fmt::format("rdma_cm: {} channels, {} ids, {} listeners, {} connections\n",
                       number(cm, "channels"), number(cm, "ids"), number(cm, "listeners"),
                       number(cm, "connections"));
  }
  return out + section("regions", part(status, "regions"),
                       {"KEY", "CONTEXT", "ADDRESS", "LENGTH", "WINDOW", "ACCESS"},
                       [](const Json& row) -> std::vector<std::string> {
                         std::string access;
                         for (const Json& name : part(row, "access")) {
                           access += (access.empty() ? "" : ",") + text(name);
                         }
                         return {hex(row, "key"),      text(row, "context"), hex(row, "address"),
                                 bytes(row, "length"), text(row, "window"),  access};
                       });
}

std::string qps_text(const Json& qps) {
  return section("queue pairs", qps,
                 {"QPN", "CONTEXT", "TYPE", "STATE", "PEER", "PEER QPN", "MTU", "SENT", "RECEIVED",
                  "RESENT", "PENDING"},
                 [](const Json& row) -> std::vector<std::string> {
                   const Json& counters = part(row, "counters");
                   return {text(row, "qpn"),
                           text(row, "context"),
                           text(row, "type"),
                           text(row, "state"),
                           text(row, "peer"),
                           text(row, "peer_qpn"),
                           text(row, "path_mtu_bytes"),
                           bytes(counters, "payload_bytes_sent"),
                           bytes(counters, "payload_bytes_received"),
                           text(counters, "packets_retransmitted"),
                           text(row, "outstanding_sends")};
                 });
}

/// All that is not zero.
void add_counters(Table& table, const std::string& where, const Json& counters) {
  if (!counters.is_object()) return;
  for (const auto& [name, value] : counters.items()) {
    if (value.is_number() && value != 0) table.add({where, name, value.dump()});
  }
}

}  // namespace

std::string status_table(const Json& status) {
  const Json& engine = part(status, "engine");
  std::string out = engine_text(engine) + objects_text(status) + qps_text(part(status, "qps"));
  Table counters({"WHERE", "COUNTER", "VALUE"});
  add_counters(counters, "engine", part(status, "counters"));
  for (const Json& port : part(engine, "ports")) {
    add_counters(counters, "port " + text(port, "name"), part(port, "counters"));
  }
  return counters.empty() ? out : out + "counters:\n" + counters.text();
}

}  // namespace flexins::cli
