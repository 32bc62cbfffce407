#include "provider/pd.h"

#include <errno.h>

#include <cstdlib>

#include "protocol/messages_memory.h"
#include "provider/guard.h"

namespace flexins::provider {

void* DomainMemory::acquire(Pd& domain, size_t bytes, size_t alignment) {
  if (domain.allocate != nullptr) {
    void* at =
        domain.allocate(&domain.face, domain.allocator_context, bytes, alignment, kSendRecords);
    if (at == nullptr) return nullptr;
    if (at != IBV_ALLOCATOR_USE_DEFAULT) {
      domain_ = &domain;
      return at_ = at;
    }
  }
  const size_t whole = (bytes + alignment - 1) / alignment * alignment;
  return at_ = std::aligned_alloc(alignment, whole);
}

void DomainMemory::release() {
  if (domain_ != nullptr) {
    domain_->free(&domain_->face, domain_->allocator_context, at_, kSendRecords);
  } else {
    std::free(at_);
  }
}

namespace {

base::Result<ibv_pd*> make_parent_domain(ibv_context* face,
                                         const ibv_parent_domain_init_attr& wanted) {
  constexpr uint32_t kKnown =
      IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS | IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT;
  if ((wanted.comp_mask & ~kKnown) != 0) return base::Error{EOPNOTSUPP, ""};
  if (wanted.pd == nullptr || wanted.pd->context != face || Pd::of(wanted.pd).is_parent_domain() ||
      (wanted.td != nullptr && wanted.td->context != face)) {
    return base::Error{EINVAL, ""};
  }
  auto domain = std::make_unique<Pd>();
  if ((wanted.comp_mask & IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS) != 0) {
    if (wanted.alloc == nullptr || wanted.free == nullptr) return base::Error{EINVAL, ""};
    domain->allocate = wanted.alloc;
    domain->free = wanted.free;
  }
  if ((wanted.comp_mask & IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT) != 0) {
    domain->allocator_context = wanted.pd_context;
  }
  domain->face.context = face;
  domain->face.handle = wanted.pd->handle;
  domain->protection = &Pd::of(wanted.pd);
  ++domain->protection->users;
  if (wanted.td != nullptr) {
    domain->td = &Td::of(wanted.td);
    ++domain->td->users;
  }
  return &domain.release()->face;
}

/// The engine knows nothing of it.
int free_parent_domain(Pd& domain) {
  --domain.protection->users;
  if (domain.td != nullptr) --domain.td->users;
  delete &domain;
  return 0;
}

}  // namespace

ibv_pd* allocate_pd(ibv_context* face) {
  return null_on_error([&]() -> base::Result<ibv_pd*> {
    auto pd = std::make_unique<Pd>();
    protocol::AllocatePdRequest request{};
    protocol::AllocatePdReply reply{};
    if (const int error = Context::of(face).call(request, reply); error != 0) {
      return base::Error{error, ""};
    }
    pd->face.context = face;
    pd->face.handle = reply.pd;
    return &pd.release()->face;
  });
}

int free_pd(ibv_pd* face) {
  return errno_on_error([&] {
    Pd& pd = Pd::of(face);
    if (pd.users != 0) return EBUSY;
    if (pd.is_parent_domain()) return free_parent_domain(pd);
    protocol::FreePdRequest request{};
    request.pd = face->handle;
    if (const int error = Context::of(face->context).call_to_free(request); error != 0) {
      return error;
    }
    delete &pd;
    return 0;
  });
}

ibv_td* allocate_td(ibv_context* face, ibv_td_init_attr* attributes) {
  return null_on_error([&]() -> base::Result<ibv_td*> {
    if (attributes->comp_mask != 0) return base::Error{EINVAL, ""};
    auto td = std::make_unique<Td>();
    auto ring = Context::of(face).take_ring();
    if (!ring) return ring.error();
    td->face.context = face;
    td->ring = *ring;
    return &td.release()->face;
  });
}

int free_td(ibv_td* face) {
  return errno_on_error([&] {
    Td& td = Td::of(face);
    if (td.users != 0) return EBUSY;
    Context::of(face->context).give_ring_back(*td.ring);
    delete &td;
    return 0;
  });
}

ibv_pd* allocate_parent_domain(ibv_context* context, ibv_parent_domain_init_attr* attributes) {
  return null_on_error([&] { return make_parent_domain(context, *attributes); });
}

ibv_pd* import_pd(ibv_context* face, uint32_t handle) {
  return null_on_error([&]() -> base::Result<ibv_pd*> {
    Context& context = Context::of(face);
    if (context.imported_from() == 0) return base::Error{EINVAL, ""};
    auto pd = std::make_unique<Pd>();
    protocol::ImportPdRequest request{};
    request.owner = context.imported_from();
    request.pd = handle;
    protocol::EmptyReply reply{};
    if (const int error = context.call(request, reply); error != 0) return base::Error{error, ""};
    pd->face.context = face;
    pd->face.handle = handle;
    pd->imported = true;
    return &pd.release()->face;
  });
}

void unimport_pd(ibv_pd* face) {
  Pd& pd = Pd::of(face);
  if (!pd.imported) return;
  // Where QPs still use it the engine keeps it for them, until the session ends.
  errno_on_error([&] {
    protocol::FreePdRequest request{};
    request.pd = face->handle;
    return Context::of(face->context).call_to_free(request);
  });
  delete &pd;
}

}  // namespace flexins::provider
