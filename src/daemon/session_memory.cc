#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "daemon/session.h"
#include "daemon/session_reply.h"

/// Protection domains, memory regions and memory windows.

namespace flexins::daemon {
namespace {

using protocol::RegisterMrRequest;
using protocol::WindowSegment;

constexpr size_t kRegisterHeadBytes = offsetof(RegisterMrRequest, segments);

constexpr uint32_t kAccessKnown = base::kAccessLocalWrite | base::kAccessRemoteWrite |
                                  base::kAccessRemoteRead | base::kAccessRemoteAtomic |
                                  base::kAccessMwBind | base::kAccessZeroBased |
                                  base::kAccessOnDemand | base::kAccessHuge;

/// The sender leaves out the segments that it does not use.
std::optional<RegisterMrRequest> decode_register(std::span<const std::byte> message) {
  if (message.size() < kRegisterHeadBytes || message.size() > sizeof(RegisterMrRequest)) {
    return std::nullopt;
  }
  RegisterMrRequest request{};
  std::memcpy(static_cast<void*>(&request), message.data(), message.size());
  const size_t room = (message.size() - kRegisterHeadBytes) / sizeof(WindowSegment);
  if (request.segment_count != room) return std::nullopt;
  if (message.size() != kRegisterHeadBytes + room * sizeof(WindowSegment)) return std::nullopt;
  return request;
}

base::Result<void> check_request(const RegisterMrRequest& request) {
  if (request.window_base + request.length < request.window_base ||
      request.iova + request.length < request.iova) {
    return invalid("the range wraps around");
  }
  if ((request.access & ~(kAccessKnown | kAccessOptional)) != 0) {
    return invalid("unknown access flags");
  }
  const uint32_t remote_stores = base::kAccessRemoteWrite | base::kAccessRemoteAtomic;
  if ((request.access & remote_stores) != 0 && (request.access & base::kAccessLocalWrite) == 0) {
    return invalid("remote writing needs local writing");  // IBTA 10.6.3.1
  }
  return {};
}

/// Segments as the window room takes them; `fds` stay ours.
base::Result<std::vector<window::HostSegment>> host_segments(
    const RegisterMrRequest& request, const std::vector<base::UniqueFd>& fds) {
  std::vector<window::HostSegment> segments;
  for (uint32_t i = 0; i < request.segment_count; ++i) {
    const WindowSegment& segment = request.segments[i];
    if (segment.descriptor >= fds.size()) return invalid("a segment names no descriptor");
    const auto kind = static_cast<memory::WindowKind>(segment.kind);
    if (kind != memory::WindowKind::kShared && kind != memory::WindowKind::kAdopted) {
      return invalid("a segment of no known kind");
    }
    segments.push_back({segment.address, segment.length, fds[segment.descriptor].get(),
                        segment.offset, kind, segment.writable != 0});
  }
  return segments;
}

/// Bytes of the registration that (disjoint) segments reach.
uint64_t covered_bytes(const RegisterMrRequest& request,
                       std::span<const window::HostSegment> segments) {
  const uint64_t end = request.window_base + request.length;
  uint64_t covered = 0;
  for (const window::HostSegment& segment : segments) {
    const uint64_t from = std::max(segment.address, request.window_base);
    const uint64_t to = std::min(segment.address + segment.length, end);
    if (from < to) covered += to - from;
  }
  return covered;
}

}  // namespace

Session::Answer Session::allocate_pd(const protocol::AllocatePdRequest&) {
  if (auto room = check_limit("protection domains", use_.pds, environment_.limits.pds_max); !room) {
    return room.error();
  }
  auto pd = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.allocate_pd(context_); });
  if (!pd) return pd.error();
  count(&TenantUse::pds);
  protocol::AllocatePdReply reply{};
  reply.pd = pd->value;
  return make_reply(reply);
}

Session::Answer Session::free_pd(const protocol::FreePdRequest& request) {
  auto freed = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.free_pd(context_, base::PdId{request.pd}); });
  if (!freed) return freed.error();
  discount(&TenantUse::pds);
  return done();
}

/// The region that a registration describes, without a key; `message`: a RegisterMrRequest.
base::Result<memory::Region> Session::open_region(std::span<const std::byte> message,
                                                  const Fds& fds) {
  const std::optional<RegisterMrRequest> request = decode_register(message);
  if (!request) return invalid("wrong size for its segment count");
  if (auto checked = check_request(*request); !checked) return checked.error();
  auto segments = host_segments(*request, fds);
  if (!segments) return segments.error();
  // Mapping may take long: here, not on the worker.
  auto window =
      environment_.windows->open(request->window_base, request->length, *segments, process_);
  if (!window) return window.error();
  if (process_ == nullptr && covered_bytes(*request, *segments) < request->length) {
    return base::Error{EOPNOTSUPP,
                       "part of the range is reached by no segment and there is no "
                       "memory descriptor"};
  }
  memory::Region region;
  region.pd = base::PdId{request->pd};
  region.address = request->iova;
  region.length = request->length;
  region.window_base = request->window_base;
  region.access = request->access;
  region.window = std::move(window).value();
  return region;
}

Session::Answer Session::register_mr(std::span<const std::byte> message, Fds fds) {
  auto region = open_region(message, fds);
  if (!region) return region.error();
  return insert_region(std::move(region).value());
}

Session::Answer Session::reregister_mr(std::span<const std::byte> message, Fds fds) {
  using Request = protocol::ReregisterMrRequest;
  constexpr size_t kHeadBytes = offsetof(Request, region);
  if (message.size() < kHeadBytes) return invalid("wrong size for its type");
  Request head{};
  std::memcpy(static_cast<void*>(&head), message.data(), kHeadBytes);
  constexpr uint32_t kWindowChanges = protocol::kChangeTranslation | protocol::kChangeAccess;
  if (head.changes == 0 || (head.changes & ~(kWindowChanges | protocol::kChangePd)) != 0) {
    return invalid("unknown changes of a region");
  }
  engine::RegionChanges changes;
  changes.pd = (head.changes & protocol::kChangePd) != 0;
  changes.window = (head.changes & kWindowChanges) != 0;
  memory::Region with;
  if (changes.window) {
    auto region = open_region(message.subspan(kHeadBytes), fds);
    if (!region) return region.error();
    with = std::move(region).value();
  } else {
    const auto request = decode_register(message.subspan(kHeadBytes));
    if (!request) return invalid("wrong size for its segment count");
    with.pd = base::PdId{request->pd};
  }
  auto changed = environment_.worker->call([&](engine::Engine& engine) {
    return engine.reregister_region(context_, base::MemoryKey{head.key}, changes, std::move(with));
  });
  if (!changed) return changed.error();
  return done();
}

Session::Answer Session::deregister_mr(const protocol::DeregisterMrRequest& request) {
  // Between two steps: once the call is back, no worker touches the memory again.
  auto gone = environment_.worker->call([&](engine::Engine& engine) {
    return engine.deregister_region(context_, base::MemoryKey{request.key});
  });
  if (!gone) return gone.error();
  discount(&TenantUse::regions);
  return done();
}

Session::Answer Session::allocate_mw(const protocol::AllocateMwRequest& request) {
  const auto type = static_cast<base::MwType>(request.type);
  if (type != base::MwType::kType1 && type != base::MwType::kType2) {
    return invalid("a memory window of type " + std::to_string(request.type));
  }
  if (auto room = check_limit("memory windows", use_.windows, environment_.limits.windows_max);
      !room) {
    return room.error();
  }
  auto key = environment_.worker->call([&](engine::Engine& engine) {
    return engine.allocate_window(context_, base::PdId{request.pd}, type);
  });
  if (!key) return key.error();
  count(&TenantUse::windows);
  protocol::AllocateMwReply reply{};
  reply.key = key->value;
  return make_reply(reply);
}

Session::Answer Session::free_mw(const protocol::FreeMwRequest& request) {
  auto gone = environment_.worker->call([&](engine::Engine& engine) {
    return engine.free_window(context_, base::MemoryKey{request.key});
  });
  if (!gone) return gone.error();
  discount(&TenantUse::windows);
  return done();
}

}  // namespace flexins::daemon
