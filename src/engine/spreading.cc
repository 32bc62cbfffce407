#include <bit>
#include <cerrno>

#include "engine/engine_impl.h"
#include "wire/receive_hash.h"

/// Receive side scaling: tables of receive work queues, and the QPs that spread frames over them.

namespace flexins::engine {

using base::Error;
using base::Limits;
using base::Result;

QueuePair& Spread::queue_for(const base::FlowKey& key) const noexcept {
  return *table->queues[wire::receive_hash(hash, key) & (table->queues.size() - 1)];
}

Result<base::SpreadTableId> EngineImpl::create_spread_table(base::ContextId id,
                                                            std::span<const base::Qpn> queues) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  if (!std::has_single_bit(queues.size()) || queues.size() > Limits::kMaxSpreadTableSize) {
    return Error{EINVAL, "an indirection table has a power of two of entries, up to 512"};
  }
  if (context->spread_tables.size() >= Limits::kMaxSpreadTables) {
    return Error{ENOMEM, "too many indirection tables"};
  }
  auto table = std::make_unique<SpreadTable>();
  for (const base::Qpn number : queues) {
    auto queue = find_qp(id, number);
    if (!queue.ok() || !(*queue)->is_queue()) {
      return Error{EINVAL, "an entry of this table is no receive work queue of this context"};
    }
    table->queues.push_back(*queue);
  }
  for (QueuePair* queue : table->queues) ++queue->table_entries;
  table->id = base::SpreadTableId{++last_id_};
  const base::SpreadTableId number = table->id;
  context->spread_tables.emplace(number.value, std::move(table));
  return number;
}

Result<void> EngineImpl::destroy_spread_table(base::ContextId id, base::SpreadTableId number) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto it = context->spread_tables.find(number.value);
  if (it == context->spread_tables.end()) return Error{ENOENT, "no such indirection table"};
  if (it->second->users > 0) return Error{EBUSY, "queue pairs still use this table"};
  for (QueuePair* queue : it->second->queues) --queue->table_entries;
  context->spread_tables.erase(it);
  return {};
}

Result<base::Qpn> EngineImpl::create_spreading_qp(base::ContextId id,
                                                  const CreateSpreadingQp& request) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto it = context->spread_tables.find(request.table.value);
  if (it == context->spread_tables.end() || !context->pds.contains(request.pd.value)) {
    return Error{ENOENT, "the PD or the indirection table of this QP does not exist"};
  }
  SpreadTable& table = *it->second;
  CreateQp create;
  create.pd = request.pd;
  create.cookie = request.cookie;
  create.type = base::QpType::kRawPacket;
  // It completes nothing itself; its CQ is one that stays as long as the table.
  QpParts parts;
  parts.send_cq = parts.receive_cq = table.queues.front()->receive_completions.cq();
  auto qp = add_qp(*context, create, parts);
  if (!qp.ok()) return qp.error();
  (*qp)->spread = std::make_unique<Spread>(Spread{&table, request.hash});
  ++table.users;
  return (*qp)->transport->config().qpn;
}

}  // namespace flexins::engine
