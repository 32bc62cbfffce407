#include <fcntl.h>

#include <cerrno>
#include <cstddef>

#include "daemon/session.h"
#include "daemon/session_reply.h"
#include "memory/plain_windows.h"

/// The null region, device memory, and what one context of a tenant shows another.

namespace flexins::daemon {
namespace {

using protocol::kMaxDeviceMemoryBytes;

base::Result<base::UniqueFd> duplicate(const base::UniqueFd& fd) {
  base::UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return base::Error{errno, "a descriptor of device memory"};
  return copy;
}

/// Access that can be had to memory that no program's mapping stands behind.
constexpr uint32_t kDeviceAccess = base::kAccessLocalWrite | base::kAccessRemoteWrite |
                                   base::kAccessRemoteRead | base::kAccessRemoteAtomic |
                                   base::kAccessMwBind | base::kAccessZeroBased;

}  // namespace

Session::Answer Session::insert_region(memory::Region region) {
  if (auto room = check_limit("regions", use_.regions, environment_.limits.regions_max); !room) {
    return room.error();
  }
  protocol::RegisterMrReply reply{};
  reply.window_kind = static_cast<uint8_t>(region.window->kind());
  auto key = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.register_region(context_, std::move(region)); });
  if (!key) return key.error();
  count(&TenantUse::regions);
  reply.key = key->value;
  return make_reply(reply);
}

Session::Answer Session::allocate_null_mr(const protocol::AllocateNullMrRequest& request) {
  memory::Region region;
  region.pd = base::PdId{request.pd};
  region.length = UINT64_MAX;
  region.access = base::kAccessLocalWrite;
  region.window = std::make_unique<memory::NullWindow>();
  return insert_region(std::move(region));
}

Session::Answer Session::allocate_dm(const protocol::AllocateDmRequest& request) {
  if (request.length == 0 || request.length > kMaxDeviceMemoryBytes) {
    return invalid("device memory of " + std::to_string(request.length) + " bytes");
  }
  auto memory = allocate_ring("flexins-device-memory", request.length);
  if (!memory) return memory.error();
  auto dm = std::make_shared<DeviceMemory>();
  dm->fd = memory->take_fd();
  dm->memory = std::move(memory).value();
  dm->length = request.length;
  auto fd = duplicate(dm->fd);
  if (!fd) {
    free_ring(std::move(dm->memory));
    return fd.error();
  }
  protocol::AllocateDmReply reply{};
  reply.length = request.length;
  reply.dm = ++use_.last_device_memory;
  use_.device_memory.emplace(reply.dm, std::move(dm));
  device_memory_.insert(reply.dm);
  return make_reply(reply, std::move(fd).value());
}

Session::Answer Session::free_dm(const protocol::FreeDmRequest& request) {
  if (!device_memory_.contains(request.dm)) return base::Error{ENOENT, "no such device memory"};
  const auto found = use_.device_memory.find(request.dm);
  // Each region holds on to it.
  if (found->second.use_count() > 1) return base::Error{EBUSY, "regions still use it"};
  release_device_memory(request.dm);
  return done();
}

void Session::release_device_memory(uint32_t dm) {
  const auto found = use_.device_memory.find(dm);
  const uint64_t bytes = found->second->memory.bytes();
  held_.ring_bytes -= bytes;
  use_.ring_bytes -= bytes;
  use_.device_memory.erase(found);
  device_memory_.erase(dm);
}

Session::Answer Session::register_dm_mr(const protocol::RegisterDmMrRequest& request) {
  const auto found = use_.device_memory.find(request.dm);
  if (found == use_.device_memory.end()) return base::Error{ENOENT, "no such device memory"};
  const std::shared_ptr<DeviceMemory>& dm = found->second;
  if (request.length > dm->length || request.offset > dm->length - request.length) {
    return invalid("a region beyond the end of its device memory");
  }
  if ((request.access & ~(kDeviceAccess | kAccessOptional)) != 0) {
    return invalid("unknown access flags");
  }
  memory::Region region;
  region.pd = base::PdId{request.pd};
  region.length = request.length;
  region.window_base = request.offset;
  region.access = request.access;
  region.window =
      std::make_unique<memory::OwnWindow>(std::span<std::byte>(dm->memory.data(), dm->length), dm);
  return insert_region(std::move(region));
}

Session::Answer Session::import_dm(const protocol::ImportDmRequest& request) {
  const auto found = use_.device_memory.find(request.dm);
  if (found == use_.device_memory.end()) return base::Error{ENOENT, "no such device memory"};
  auto fd = duplicate(found->second->fd);
  if (!fd) return fd.error();
  protocol::AllocateDmReply reply{};
  reply.length = found->second->length;
  reply.dm = request.dm;
  return make_reply(reply, std::move(fd).value());
}

Session::Answer Session::import_pd(const protocol::ImportPdRequest& request) {
  const base::ContextId owner{request.owner};
  // Another user's objects are not even there.
  if (!use_.contexts.contains(owner)) return base::Error{ENOENT, "no such context"};
  if (auto room = check_limit("protection domains", use_.pds, environment_.limits.pds_max); !room) {
    return room.error();
  }
  auto shared = environment_.worker->call([&](engine::Engine& engine) {
    return engine.share_pd(context_, owner, base::PdId{request.pd});
  });
  if (!shared) return shared.error();
  count(&TenantUse::pds);
  return done();
}

Session::Answer Session::import_mr(const protocol::ImportMrRequest& request) {
  auto length = environment_.worker->call([&](engine::Engine& engine) {
    return engine.region_length(context_, base::PdId{request.pd}, base::MemoryKey{request.key});
  });
  if (!length) return length.error();
  protocol::ImportMrReply reply{};
  reply.length = *length;
  return make_reply(reply);
}

}  // namespace flexins::daemon
