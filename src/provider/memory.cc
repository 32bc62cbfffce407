#include "provider/memory.h"

#include <errno.h>

#include <algorithm>
#include <memory>

#include "base/verbs_types.h"
#include "provider/context.h"
#include "provider/guard.h"

namespace flexins::provider {
namespace {

struct Mr {
  verbs_mr face{};  ///< first: libibverbs' pointer is ours
  Context* context = nullptr;
  uint64_t ticket = 0;
  bool prepared = false;
};

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

int register_in_engine(Context& context, protocol::RegisterMrRequest& request,
                       std::vector<window::ClientSegment> segments, Mr& mr) {
  const std::vector<int> fds = pack_segments(std::move(segments), request);
  const size_t bytes = offsetof(protocol::RegisterMrRequest, segments) +
                       request.segment_count * sizeof(protocol::WindowSegment);
  protocol::RegisterMrReply reply{};
  if (const int error = context.call(request, reply, fds, nullptr, bytes); error != 0) return error;
  mr.face.ibv.lkey = reply.key;
  mr.face.ibv.rkey = reply.key;
  mr.face.ibv.handle = reply.key;
  return 0;
}

base::Result<ibv_mr*> create(ibv_pd* pd, void* address, size_t length, uint64_t iova, int access) {
  if (const int error = check_access(access); error != 0) return base::Error{error, ""};
  const auto start = reinterpret_cast<uint64_t>(address);
  if (start + length < start || iova + length < iova) return base::Error{EINVAL, ""};
  Context& context = Context::of(pd->context);
  if (!context.live()) return base::Error{EIO, ""};
  auto mr = std::make_unique<Mr>();
  mr->context = &context;
  auto request = std::make_unique<protocol::RegisterMrRequest>();
  request->iova = (access & IBV_ACCESS_ZERO_BASED) != 0 ? 0 : iova;
  request->window_base = start;
  request->length = length;
  request->pd = pd->handle;
  request->access = static_cast<uint32_t>(access);
  int error = 0;
  if (length == 0) {
    error = register_in_engine(context, *request, {}, *mr);
  } else {
    auto prepared =
        window::WindowClient::instance().prepare(start, length, needs_write(access), false);
    if (!prepared) return prepared.error();
    PreparedRange range(prepared->ticket);
    mr->ticket = prepared->ticket;
    mr->prepared = true;
    error = register_in_engine(context, *request, std::move(prepared->segments), *mr);
    if (error == 0) range.keep();
  }
  if (error != 0) return base::Error{error, ""};
  ibv_mr& face = mr->face.ibv;
  face.context = pd->context;
  face.pd = pd;
  face.addr = address;
  face.length = length;
  mr->face.mr_type = VERBS_MR_TYPE_MR;
  mr->face.access = access;
  return &mr.release()->face.ibv;
}

}  // namespace

int check_access(int access) {
  constexpr int kMeaningful = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                              IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC |
                              IBV_ACCESS_MW_BIND | IBV_ACCESS_ZERO_BASED | IBV_ACCESS_HUGETLB;
  constexpr int kRemoteWrite = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
  const int mandatory = access & ~static_cast<int>(IBV_ACCESS_OPTIONAL_RANGE);
  if ((mandatory & IBV_ACCESS_ON_DEMAND) != 0) return EOPNOTSUPP;
  if ((mandatory & ~kMeaningful) != 0) return EINVAL;
  const bool local_write = (access & IBV_ACCESS_LOCAL_WRITE) != 0;
  return (access & kRemoteWrite) != 0 && !local_write ? EINVAL : 0;
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

ibv_pd* allocate_pd(ibv_context* face) {
  return null_on_error([&]() -> base::Result<ibv_pd*> {
    auto pd = std::make_unique<ibv_pd>();
    protocol::AllocatePdRequest request{};
    protocol::AllocatePdReply reply{};
    if (const int error = Context::of(face).call(request, reply); error != 0) {
      return base::Error{error, ""};
    }
    pd->context = face;
    pd->handle = reply.pd;
    return pd.release();
  });
}

int free_pd(ibv_pd* pd) {
  return errno_on_error([&] {
    protocol::FreePdRequest request{};
    request.pd = pd->handle;
    if (const int error = Context::of(pd->context).call_to_free(request); error != 0) return error;
    delete pd;
    return 0;
  });
}

ibv_mr* register_mr(ibv_pd* pd, void* address, size_t length, uint64_t iova, int access) {
  return null_on_error([&] { return create(pd, address, length, iova, access); });
}

int deregister_mr(verbs_mr* face) {
  return errno_on_error([&] {
    Mr& mr = *reinterpret_cast<Mr*>(face);
    protocol::DeregisterMrRequest request{};
    request.key = mr.face.ibv.lkey;
    if (const int error = mr.context->call_to_free(request); error != 0) return error;
    if (mr.prepared) window::WindowClient::instance().release(mr.ticket);
    delete &mr;
    return 0;
  });
}

}  // namespace flexins::provider
