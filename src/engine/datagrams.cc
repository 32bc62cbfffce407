#include <cerrno>

#include "engine/engine_impl.h"

/// Address handles.

namespace flexins::engine {

using base::Error;
using base::Result;

namespace {

/// UDP source port of the datagrams to an address: spreads destinations over equal-cost paths.
uint16_t flow_port(const wire::IpAddress& to) {
  uint32_t mixed = 0;
  for (const uint8_t byte : to.bytes) mixed = (mixed ^ byte) * 0x9e37'79b1u;
  return static_cast<uint16_t>(0xc000u | (mixed >> 18));
}

}  // namespace

Result<base::AhId> EngineImpl::create_ah(base::ContextId id, base::PdId pd,
                                         const base::AddressVector& to) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto domain = context->pds.find(pd.value);
  if (domain == context->pds.end()) return Error{EINVAL, "the PD of this handle does not exist"};
  if (to.port_number != 1) return Error{EINVAL, "this device has port 1 only"};
  if (context->address_handles.size() >= base::Limits::kMaxAh) {
    return Error{ENOMEM, "too many address handles"};
  }
  auto path = make_path(to, 0);
  if (!path.ok()) return path.error();
  path->source_port = flow_port(path->destination);
  const base::AhId ah{++last_id_};
  const uint32_t mtu_bytes = config_.addresses[to.source_gid_index].mtu_bytes;
  context->address_handles.emplace(ah.value, AddressHandle{pd, {*path, mtu_bytes}});
  ++domain->second;
  return ah;
}

Result<void> EngineImpl::destroy_ah(base::ContextId id, base::AhId ah) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto it = context->address_handles.find(ah.value);
  if (it == context->address_handles.end()) {
    return Error{ENOENT, "no such address handle in this context"};
  }
  --context->pds[it->second.pd.value];
  context->address_handles.erase(it);
  return {};
}

}  // namespace flexins::engine
