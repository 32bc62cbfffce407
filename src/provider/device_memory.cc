#include "provider/device_memory.h"

#include <errno.h>

#include <cstring>
#include <memory>

#include "base/verbs_types.h"
#include "protocol/messages_memory.h"
#include "provider/context.h"
#include "provider/guard.h"
#include "provider/memory.h"

namespace flexins::provider {
namespace {

/// As on cards, the processor reaches device memory in words of four bytes.
constexpr uint64_t kWordBytes = 4;

struct Dm {
  verbs_dm face{};  ///< first: libibverbs' pointer is ours
  Context* context = nullptr;
  /// In a child after fork: a session of its own, since the parent's is not to be spoken in.
  std::unique_ptr<Context> own_session;
  uint64_t length = 0;
  bool imported = false;
  SharedMemory memory;

  static Dm& of(ibv_dm* face) { return *reinterpret_cast<Dm*>(face); }
  [[nodiscard]] std::byte* at(uint64_t offset, size_t bytes) const {
    const bool whole = offset % kWordBytes == 0 && bytes % kWordBytes == 0;
    if (!whole || bytes > length || offset > length - bytes) return nullptr;
    return memory.base() + offset;
  }
};

int copy_to(ibv_dm* face, uint64_t offset, const void* from, size_t bytes) {
  std::byte* to = Dm::of(face).at(offset, bytes);
  if (to == nullptr) return EINVAL;
  std::memcpy(to, from, bytes);
  // A work request that is posted next has to find it.
  std::atomic_thread_fence(std::memory_order_release);
  return 0;
}

int copy_from(void* to, ibv_dm* face, uint64_t offset, size_t bytes) {
  const std::byte* from = Dm::of(face).at(offset, bytes);
  if (from == nullptr) return EINVAL;
  std::memcpy(to, from, bytes);
  return 0;
}

template <typename Request>
base::Result<ibv_dm*> obtain(ibv_context* face, std::unique_ptr<Dm> dm, Request& request) {
  protocol::AllocateDmReply reply{};
  protocol::ReceivedFds fds;
  if (const int error = dm->context->call(request, reply, {}, &fds); error != 0) {
    return base::Error{error, ""};
  }
  dm->length = reply.length;
  dm->face.handle = reply.dm;
  dm->face.dm.handle = reply.dm;
  dm->face.dm.context = face;
  dm->face.dm.memcpy_to_dm = copy_to;
  dm->face.dm.memcpy_from_dm = copy_from;
  if (!dm->memory.map(fds.take(0), reply.length)) {
    if (!dm->imported) {
      protocol::FreeDmRequest undo{};
      undo.dm = reply.dm;
      dm->context->call_to_free(undo);
    }
    return base::Error{ENOMEM, ""};
  }
  return &dm.release()->face.dm;
}

/// A zeroed Mr of a region that needs no pages of the program.
template <typename Request>
base::Result<ibv_mr*> obtain_region(ibv_pd* pd, Request& request, size_t length, int access) {
  Context& context = Context::of(pd->context);
  auto mr = std::make_unique<Mr>();
  mr->context = &context;
  mr->kind = Mr::Kind::kDevice;
  protocol::RegisterMrReply reply{};
  if (const int error = context.call(request, reply); error != 0) return base::Error{error, ""};
  fill_region(*mr, pd, reply.key, nullptr, length, access);
  context.add_region(mr.get());
  return &mr.release()->face.ibv;
}

}  // namespace

ibv_mr* allocate_null_mr(ibv_pd* pd) {
  return null_on_error([&]() -> base::Result<ibv_mr*> {
    protocol::AllocateNullMrRequest request{};
    request.pd = pd->handle;
    auto made = obtain_region(pd, request, 0, IBV_ACCESS_LOCAL_WRITE);
    if (made) Mr::of(*made).face.mr_type = VERBS_MR_TYPE_NULL_MR;
    return made;
  });
}

ibv_dm* allocate_dm(ibv_context* face, ibv_alloc_dm_attr* attributes) {
  return null_on_error([&]() -> base::Result<ibv_dm*> {
    constexpr uint32_t kPageShift = 12;
    if (attributes->comp_mask != 0 || attributes->length == 0 ||
        attributes->length > protocol::kMaxDeviceMemoryBytes ||
        attributes->log_align_req > kPageShift) {
      return base::Error{EINVAL, ""};
    }
    auto dm = std::make_unique<Dm>();
    dm->context = &Context::of(face);
    if (dm->context->inherited()) {
      auto session = Context::open(face);
      if (!session) return session.error();
      dm->own_session = std::move(session).value();
      dm->context = dm->own_session.get();
    }
    protocol::AllocateDmRequest request{};
    request.length = attributes->length;
    return obtain(face, std::move(dm), request);
  });
}

int free_dm(ibv_dm* face) {
  return errno_on_error([&] {
    Dm& dm = Dm::of(face);
    if (dm.imported) return EINVAL;
    protocol::FreeDmRequest request{};
    request.dm = dm.face.handle;
    if (const int error = dm.context->call_to_free(request); error != 0) return error;
    delete &dm;
    return 0;
  });
}

ibv_mr* register_dm_mr(ibv_pd* pd, ibv_dm* face, uint64_t offset, size_t length, uint32_t access) {
  return null_on_error([&]() -> base::Result<ibv_mr*> {
    const Dm& dm = Dm::of(face);
    if ((access & IBV_ACCESS_ZERO_BASED) == 0 || (access & IBV_ACCESS_ON_DEMAND) != 0 ||
        length > dm.length || offset > dm.length - length) {
      return base::Error{EINVAL, ""};
    }
    if (const int error = check_access(static_cast<int>(access)); error != 0) {
      return base::Error{error, ""};
    }
    protocol::RegisterDmMrRequest request{};
    request.offset = offset;
    request.length = length;
    request.dm = dm.face.handle;
    request.pd = pd->handle;
    request.access = access;
    return obtain_region(pd, request, length, static_cast<int>(access));
  });
}

ibv_dm* import_dm(ibv_context* face, uint32_t handle) {
  return null_on_error([&]() -> base::Result<ibv_dm*> {
    auto dm = std::make_unique<Dm>();
    dm->context = &Context::of(face);
    dm->imported = true;
    protocol::ImportDmRequest request{};
    request.dm = handle;
    return obtain(face, std::move(dm), request);
  });
}

void unimport_dm(ibv_dm* face) {
  Dm& dm = Dm::of(face);
  if (dm.imported) delete &dm;
}

}  // namespace flexins::provider
