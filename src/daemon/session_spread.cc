#include <cstddef>

#include "daemon/peer_rights.h"
#include "daemon/session.h"
#include "daemon/session_reply.h"

/// Receive side scaling: tables of receive work queues, and QPs over them.

namespace flexins::daemon {

using protocol::CreateSpreadTableRequest;

Session::Answer Session::create_spread_table(std::span<const std::byte> message) {
  CreateSpreadTableRequest request{};
  constexpr size_t kFixedBytes = offsetof(CreateSpreadTableRequest, queues);
  if (message.size() < kFixedBytes || message.size() > sizeof request) {
    return invalid("wrong size for its type");
  }
  std::memcpy(static_cast<void*>(&request), message.data(), message.size());
  if (request.queue_count > base::Limits::kMaxSpreadTableSize ||
      message.size() != kFixedBytes + request.queue_count * sizeof request.queues[0]) {
    return invalid("a table of another length than it says");
  }
  if (auto room = check_limit("indirection tables", use_.spread_tables,
                              environment_.limits.spread_tables_max);
      !room) {
    return room.error();
  }
  std::vector<base::Qpn> queues;
  for (uint32_t i = 0; i < request.queue_count; ++i) queues.push_back({request.queues[i]});
  auto table = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.create_spread_table(context_, queues); });
  if (!table) return table.error();
  count(&TenantUse::spread_tables);
  protocol::CreateSpreadTableReply reply{};
  reply.table = table->value;
  return make_reply(reply);
}

Session::Answer Session::destroy_spread_table(const protocol::DestroySpreadTableRequest& request) {
  auto gone = environment_.worker->call([&](engine::Engine& engine) {
    return engine.destroy_spread_table(context_, base::SpreadTableId{request.table});
  });
  if (!gone) return gone.error();
  discount(&TenantUse::spread_tables);
  return done();
}

Session::Answer Session::create_spreading_qp(const protocol::CreateSpreadingQpRequest& request) {
  if (!may_use_raw_frames(peer_)) {
    return base::Error{EPERM, "raw packet QPs are for root and who has CAP_NET_RAW"};
  }
  if ((request.hash.fields & ~base::kHashAllFields) != 0) return invalid("unknown hash fields");
  if (auto room = check_limit("QPs", use_.qps, environment_.limits.qps_max); !room) {
    return room.error();
  }
  auto qpn = environment_.worker->call([&](engine::Engine& engine) {
    engine::CreateSpreadingQp create;
    create.pd = base::PdId{request.pd};
    create.table = base::SpreadTableId{request.table};
    create.cookie = request.cookie;
    create.hash = request.hash;
    return engine.create_spreading_qp(context_, create);
  });
  if (!qpn) return qpn.error();
  count(&TenantUse::qps);
  protocol::CreateSpreadingQpReply reply{};
  reply.qpn = qpn->value;
  return make_reply(reply);
}

}  // namespace flexins::daemon
