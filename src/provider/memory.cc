#include "provider/memory.h"

#include <errno.h>

#include <algorithm>
#include <memory>

#include "base/verbs_types.h"
#include "protocol/messages_memory.h"
#include "provider/context.h"
#include "provider/guard.h"

namespace flexins::provider {
namespace {

/// Undoes a preparation unless the registration came about.
class PreparedRange {
 public:
  explicit PreparedRange(uint64_t ticket) : ticket_(ticket), held_(true) {}
  PreparedRange(const PreparedRange&) = delete;
  PreparedRange& operator=(const PreparedRange&) = delete;
  ~PreparedRange() {
    if (held_) window::WindowClient::instance().release(ticket_);
  }
  void keep() { held_ = false; }

 private:
  uint64_t ticket_;
  bool held_;
};

bool needs_write(int access) {
  return (access & (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) !=
         0;
}

/// What a registration is of; checked, and the request's fields filled in.
struct Range {
  void* address;
  size_t length;
  uint64_t iova;
  int access;
};

int describe(const Range& range, const ibv_pd* pd, protocol::RegisterMrRequest& request) {
  if (const int error = check_access(range.access); error != 0) return error;
  const auto start = reinterpret_cast<uint64_t>(range.address);
  const uint64_t iova = (range.access & IBV_ACCESS_ZERO_BASED) != 0 ? 0 : range.iova;
  if (start + range.length < start || iova + range.length < iova) return EINVAL;
  request.iova = iova;
  request.window_base = start;
  request.length = range.length;
  request.pd = pd->handle;
  request.access = static_cast<uint32_t>(range.access);
  return 0;
}

/// Prepares the range's pages, lets `ask` tell the engine (with the descriptors), and makes the
/// preparation the region's if that went well. What the region had before is the caller's to free.
template <typename Ask>
int prepare_and(const Range& range, protocol::RegisterMrRequest& request, Mr& mr, Ask&& ask) {
  if (range.length == 0) {
    const int error = ask(std::vector<int>{});
    if (error == 0) mr.prepared = false;
    return error;
  }
  const bool on_demand = (range.access & IBV_ACCESS_ON_DEMAND) != 0;
  auto prepared = window::WindowClient::instance().prepare(request.window_base, range.length,
                                                           needs_write(range.access), on_demand);
  if (!prepared) return prepared.error().code;
  PreparedRange pages(prepared->ticket);
  const int error = ask(pack_segments(std::move(prepared->segments), request));
  if (error != 0) return error;
  pages.keep();
  mr.ticket = prepared->ticket;
  mr.prepared = true;
  return 0;
}

base::Result<ibv_mr*> create(ibv_pd* pd, const Range& range) {
  auto request = std::make_unique<protocol::RegisterMrRequest>();
  if (const int error = describe(range, pd, *request); error != 0) return base::Error{error, ""};
  Context& context = Context::of(pd->context);
  if (!context.live()) return base::Error{EIO, ""};
  auto mr = std::make_unique<Mr>();
  mr->context = &context;
  protocol::RegisterMrReply reply{};
  const int error = prepare_and(range, *request, *mr, [&](const std::vector<int>& fds) {
    const size_t bytes = offsetof(protocol::RegisterMrRequest, segments) +
                         request->segment_count * sizeof(protocol::WindowSegment);
    return context.call(*request, reply, fds, nullptr, bytes);
  });
  if (error != 0) return base::Error{error, ""};
  fill_region(*mr, pd, reply.key, range.address, range.length, range.access);
  context.add_region(mr.get());
  return &mr.release()->face.ibv;
}

int change(Mr& mr, uint32_t changes, const ibv_pd* pd, const Range& range) {
  auto request = std::make_unique<protocol::ReregisterMrRequest>();
  request->key = mr.face.ibv.lkey;
  request->changes = changes;
  const auto ask = [&](const std::vector<int>& fds) {
    const size_t bytes = offsetof(protocol::ReregisterMrRequest, region) +
                         offsetof(protocol::RegisterMrRequest, segments) +
                         request->region.segment_count * sizeof(protocol::WindowSegment);
    protocol::EmptyReply reply{};
    return mr.context->call(*request, reply, fds, nullptr, bytes);
  };
  if (const int error = describe(range, pd, request->region); error != 0) return error;
  if ((changes & ~uint32_t{protocol::kChangePd}) == 0) return ask({});
  const bool was_prepared = mr.prepared;
  const uint64_t old_ticket = mr.ticket;
  if (const int error = prepare_and(range, request->region, mr, ask); error != 0) return error;
  if (was_prepared) window::WindowClient::instance().release(old_ticket);
  mr.face.access = range.access;
  return 0;
}

}  // namespace

int check_access(int access) {
  constexpr int kMeaningful = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                              IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC |
                              IBV_ACCESS_MW_BIND | IBV_ACCESS_ZERO_BASED | IBV_ACCESS_ON_DEMAND |
                              IBV_ACCESS_HUGETLB;
  constexpr int kRemoteWrite = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
  const int mandatory = access & ~static_cast<int>(IBV_ACCESS_OPTIONAL_RANGE);
  if ((mandatory & ~kMeaningful) != 0) return EINVAL;
  const bool local_write = (access & IBV_ACCESS_LOCAL_WRITE) != 0;
  return (access & kRemoteWrite) != 0 && !local_write ? EINVAL : 0;
}

void fill_region(Mr& mr, ibv_pd* pd, uint32_t key, void* address, size_t length, int access) {
  ibv_mr& face = mr.face.ibv;
  face.context = pd->context;
  face.pd = pd;
  face.addr = address;
  face.length = length;
  face.lkey = key;
  face.rkey = key;
  face.handle = key;
  mr.face.mr_type = VERBS_MR_TYPE_MR;
  mr.face.access = access;
}

std::vector<int> pack_segments(std::vector<window::ClientSegment> segments,
                               protocol::RegisterMrRequest& request) {
  std::stable_sort(segments.begin(), segments.end(),
                   [](const auto& a, const auto& b) { return a.length > b.length; });
  std::vector<int> fds;
  std::vector<window::ClientSegment> kept;
  for (const auto& segment : segments) {
    if (kept.size() == protocol::kMaxSegments) break;
    if (std::find(fds.begin(), fds.end(), segment.fd) == fds.end()) {
      if (fds.size() == protocol::kMaxDescriptors) continue;
      fds.push_back(segment.fd);
    }
    kept.push_back(segment);
  }
  std::sort(kept.begin(), kept.end(),
            [](const auto& a, const auto& b) { return a.address < b.address; });
  request.segment_count = static_cast<uint32_t>(kept.size());
  for (size_t i = 0; i < kept.size(); ++i) {
    const auto& from = kept[i];
    const auto descriptor = std::find(fds.begin(), fds.end(), from.fd) - fds.begin();
    auto& to = request.segments[i];
    to.address = from.address;
    to.length = from.length;
    to.offset = from.offset;
    to.descriptor = static_cast<uint32_t>(descriptor);
    to.kind = static_cast<uint8_t>(from.kind);
    to.writable = from.writable ? 1 : 0;
    to.sealed = to.kind == 1 ? 1 : 0;
  }
  return fds;
}

ibv_mr* register_mr(ibv_pd* pd, void* address, size_t length, uint64_t iova, int access) {
  return null_on_error([&] { return create(pd, Range{address, length, iova, access}); });
}

int reregister_mr(verbs_mr* face, int flags, ibv_pd* pd, void* address, size_t length, int access) {
  const int error = errno_on_error([&] {
    Mr& mr = *reinterpret_cast<Mr*>(face);
    if (mr.kind != Mr::Kind::kProgram) return EOPNOTSUPP;
    const auto changes = static_cast<uint32_t>(flags);
    const bool moves = (changes & protocol::kChangeTranslation) != 0;
    Range range{mr.face.ibv.addr, mr.face.ibv.length, 0, mr.face.access};
    if (moves) range = Range{address, length, 0, mr.face.access};
    if ((changes & protocol::kChangeAccess) != 0) range.access = access;
    range.iova = reinterpret_cast<uint64_t>(range.address);
    const bool other_pd = (changes & protocol::kChangePd) != 0;
    if (other_pd && (pd == nullptr || pd->context != mr.face.ibv.context)) return EINVAL;
    return change(mr, changes, other_pd ? pd : mr.face.ibv.pd, range);
  });
  if (error != 0) errno = error;
  return error;
}

int deregister_mr(verbs_mr* face) {
  return errno_on_error([&] {
    Mr& mr = *reinterpret_cast<Mr*>(face);
    if (mr.kind == Mr::Kind::kImported) return EINVAL;
    protocol::DeregisterMrRequest request{};
    request.key = mr.face.ibv.lkey;
    if (const int error = mr.context->call_to_free(request); error != 0) return error;
    mr.context->remove_region(&mr);
    if (mr.prepared) window::WindowClient::instance().release(mr.ticket);
    delete &mr;
    return 0;
  });
}

ibv_mr* import_mr(ibv_pd* pd, uint32_t handle) {
  return null_on_error([&]() -> base::Result<ibv_mr*> {
    Context& context = Context::of(pd->context);
    auto mr = std::make_unique<Mr>();
    mr->context = &context;
    mr->kind = Mr::Kind::kImported;
    protocol::ImportMrRequest request{};
    request.pd = pd->handle;
    request.key = handle;
    protocol::ImportMrReply reply{};
    if (const int error = context.call(request, reply); error != 0) return base::Error{error, ""};
    fill_region(*mr, pd, handle, nullptr, reply.length, 0);
    mr->face.mr_type = VERBS_MR_TYPE_IMPORTED_MR;
    return &mr.release()->face.ibv;
  });
}

void unimport_mr(ibv_mr* face) {
  Mr& mr = Mr::of(face);
  if (mr.kind == Mr::Kind::kImported) delete &mr;
}

}  // namespace flexins::provider
