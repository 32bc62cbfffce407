#include "daemon/status_json.h"

#include <arpa/inet.h>

#include <set>
#include <string_view>

#include <fmt/format.h>

namespace flexins::daemon {
namespace {

using Json = nlohmann::json;

std::string_view state_name(base::QpState state) {
  switch (state) {
    case base::QpState::kReset: return "RESET";
    case base::QpState::kInit: return "INIT";
    case base::QpState::kReadyToReceive: return "RTR";
    case base::QpState::kReadyToSend: return "RTS";
    case base::QpState::kSendQueueDrained: return "SQD";
    case base::QpState::kSendQueueError: return "SQE";
    case base::QpState::kError: return "ERR";
  }
  return "?";
}

std::string_view type_name(base::QpType type) {
  switch (type) {
    case base::QpType::kReliable: return "RC";
    case base::QpType::kUnreliable: return "UC";
    case base::QpType::kDatagram: return "UD";
    case base::QpType::kRawPacket: return "RAW";
    case base::QpType::kXrcSend: return "XRC_SEND";
    case base::QpType::kXrcReceive: return "XRC_RECV";
    case base::QpType::kReceiveQueue: return "WQ";
  }
  return "?";
}

Json access_names(uint32_t access) {
  static constexpr std::pair<uint32_t, const char*> kNames[] = {
      {base::kAccessLocalWrite, "local-write"}, {base::kAccessRemoteWrite, "remote-write"},
      {base::kAccessRemoteRead, "remote-read"}, {base::kAccessRemoteAtomic, "remote-atomic"},
      {base::kAccessMwBind, "mw-bind"},         {base::kAccessZeroBased, "zero-based"},
      {base::kAccessOnDemand, "on-demand"},
  };
  Json names = Json::array();
  for (const auto& [flag, name] : kNames) {
    if ((access & flag) != 0) names.push_back(name);
  }
  return names;
}

Json counters_json(const std::vector<port::Counter>& counters) {
  Json object = Json::object();
  for (const port::Counter& counter : counters) object[std::string(counter.name)] = counter.value;
  return object;
}

Json qp_counters_json(const transport::QpCounters& c) {
  return {{"packets_sent", c.packets_sent},
          {"packets_received", c.packets_received},
          {"payload_bytes_sent", c.payload_bytes_sent},
          {"payload_bytes_received", c.payload_bytes_received},
          {"payload_bytes_staged", c.payload_bytes_staged},
          {"packets_retransmitted", c.packets_retransmitted},
          {"timeouts", c.timeouts},
          {"naks_sent", c.naks_sent},
          {"naks_received", c.naks_received},
          {"rnr_naks_sent", c.rnr_naks_sent},
          {"rnr_naks_received", c.rnr_naks_received},
          {"duplicates_received", c.duplicates_received},
          {"out_of_sequence_received", c.out_of_sequence_received},
          {"qkey_violations", c.qkey_violations},
          {"no_receive_drops", c.no_receive_drops},
          {"dropped_received", c.dropped_received}};
}

Json qp_json(const engine::QpInfo& qp) {
  Json row = {{"qpn", qp.qpn.value},
              {"context", qp.context.value},
              {"type", type_name(qp.type)},
              {"state", state_name(qp.attributes.state)},
              {"outstanding_sends", qp.outstanding_sends},
              {"counters", qp_counters_json(qp.counters)}};
  const bool connected = qp.attributes.address.destination_gid != base::Gid{};
  row["peer"] = connected ? Json(gid_text(qp.attributes.address.destination_gid)) : Json();
  row["peer_qpn"] = qp.attributes.destination_qpn;
  row["path_mtu_bytes"] = qp.attributes.path_mtu == 0 ? 0 : 128u << qp.attributes.path_mtu;
  return row;
}

Json region_json(const engine::RegionInfo& region) {
  return {{"key", region.key.value},
          {"context", region.context.value},
          {"address", region.address},
          {"length", region.length},
          {"access", access_names(region.access)},
          {"window", memory::to_string(region.window)}};
}

Json tenant_json(uid_t uid, const TenantUse& use) {
  return {{"uid", uid},
          {"sessions", use.sessions},
          {"pds", use.pds},
          {"regions", use.regions},
          {"cqs", use.cqs},
          {"channels", use.channels},
          {"qps", use.qps},
          {"srqs", use.srqs},
          {"windows", use.windows},
          {"xrcds", use.xrcds},
          {"ring_bytes", use.ring_bytes}};
}

Json context_json(const SessionRow& session, const engine::EngineInfo& info) {
  Json row = {{"context", session.context.value},
              {"uid", session.peer.uid},
              {"pid", session.peer.pid},
              {"program", session.program},
              {"events_dropped", session.events_dropped}};
  for (const engine::ContextInfo& context : info.contexts) {
    if (context.context != session.context) continue;
    row.update({{"pds", context.pds},
                {"cqs", context.cqs},
                {"qps", context.qps},
                {"srqs", context.srqs},
                {"regions", context.regions},
                {"windows", context.windows},
                {"xrcds", context.xrcds}});
  }
  return row;
}

Json worker_json(const WorkerCounters& worker) {
  return {{"steps", worker.steps},
          {"sleeps", worker.sleeps},
          {"wakeups_avoided", worker.wakeups_avoided},
          {"cpu_ms", worker.cpu_ns / base::kMillisecond}};
}

}  // namespace

std::string gid_text(const base::Gid& gid) {
  static constexpr base::Gid kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  char text[INET6_ADDRSTRLEN] = {};
  const bool v4 = std::equal(gid.begin(), gid.begin() + 12, kMapped.begin());
  ::inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? gid.data() + 12 : gid.data(), text, sizeof text);
  return text;
}

Json status_json(const StatusInput& input, std::optional<uid_t> viewer) {
  const auto visible = [&](uid_t uid) { return !viewer || *viewer == uid; };
  Json status = {{"engine", input.engine},    {"tenants", Json::array()},
                 {"contexts", Json::array()}, {"qps", Json::array()},
                 {"regions", Json::array()},  {"counters", Json::object()}};
  status["engine"]["worker"] = worker_json(input.worker);
  for (const auto& [uid, use] : input.tenants) {
    if (visible(uid)) status["tenants"].push_back(tenant_json(uid, use));
  }
  std::set<base::ContextId> seen;
  for (const SessionRow& session : input.sessions) {
    if (!visible(session.peer.uid)) continue;
    seen.insert(session.context);
    status["contexts"].push_back(context_json(session, input.info));
  }
  for (const engine::QpInfo& qp : input.info.qps) {
    if (seen.contains(qp.context)) status["qps"].push_back(qp_json(qp));
  }
  for (const engine::RegionInfo& region : input.info.regions) {
    if (seen.contains(region.context)) status["regions"].push_back(region_json(region));
  }
  if (viewer) return status;
  status["rdma_cm"] = {{"channels", input.cm.channels},
                       {"ids", input.cm.ids},
                       {"listeners", input.cm.listeners},
                       {"connections", input.cm.connections}};
  status["counters"] = counters_json(input.info.counters);
  status["engine"]["ports"] = Json::array();
  for (const PortRow& port : input.ports) {
    status["engine"]["ports"].push_back(
        {{"name", port.name}, {"counters", counters_json(port.counters)}});
  }
  return status;
}

}  // namespace flexins::daemon
