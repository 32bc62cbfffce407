#include <cerrno>

#include "base/verbs_types.h"
#include "device_fixture.h"
#include "provider/device_memory.h"
#include "provider/memory.h"
#include "provider/pd.h"
#include "provider/qp.h"
#include "provider/qp_extras.h"

// Thread domains, parent domains, device memory and the rest of what the engine is asked for beyond
// regions and queue pairs. What libibverbs only wires up in devices that it opened itself is called
// directly.

namespace flexins::provider {
namespace {

class Domains : public OpenDevice {
 protected:
  ibv_td* thread_domain() {
    ibv_td_init_attr wanted{};
    return allocate_td(context, &wanted);
  }
  ibv_pd* parent_domain(ibv_td* td, ibv_pd* over = nullptr) {
    ibv_parent_domain_init_attr wanted{};
    wanted.pd = over != nullptr ? over : pd;
    wanted.td = td;
    return allocate_parent_domain(context, &wanted);
  }
  char from[64] = {}, to[64] = {};
};

/// As an int: ibv_reg_mr is a macro that combines it with an enumeration of its own.
constexpr int kLocalWrite = IBV_ACCESS_LOCAL_WRITE;

TEST_F(Domains, AThreadDomainHasARingOfItsOwn) {
  ibv_td* td = thread_domain();
  ASSERT_NE(td, nullptr);
  ibv_pd* domain = parent_domain(td);
  ASSERT_NE(domain, nullptr);
  EXPECT_EQ(domain->handle, pd->handle);
  ibv_qp* qp = create_qp_like(attributes_on(cq, domain));
  ASSERT_NE(qp, nullptr);
  EXPECT_NE(Qp::of(qp).ring, &Context::of(context).shared_ring());
  EXPECT_NE(Qp::of(qp).ring->id, 0u);
  EXPECT_EQ(free_td(td), EBUSY);
  EXPECT_EQ(free_pd(domain), EBUSY);
  EXPECT_EQ(free_pd(pd), EBUSY);
  EXPECT_EQ(ibv_destroy_qp(qp), 0);
  qps.clear();
  EXPECT_EQ(free_pd(domain), 0);
  EXPECT_EQ(free_td(td), 0);
}

TEST_F(Domains, RingsOfThreadDomainsAreUsedAgain) {
  ibv_td* first = thread_domain();
  SubmissionRing* ring = Td::of(first).ring;
  EXPECT_EQ(free_td(first), 0);
  ibv_td* second = thread_domain();
  EXPECT_EQ(Td::of(second).ring, ring);
  EXPECT_EQ(free_td(second), 0);
}

TEST_F(Domains, WithoutRingsLeftThreadDomainsShareOne) {
  std::vector<ibv_td*> all;
  for (uint32_t i = 0; i < pipe::kMaxSubmissionRings + 3; ++i) {
    all.push_back(thread_domain());
    ASSERT_NE(all.back(), nullptr);
  }
  EXPECT_EQ(Td::of(all.back()).ring, &Context::of(context).shared_ring());
  for (ibv_td* td : all) EXPECT_EQ(free_td(td), 0);
}

TEST_F(Domains, ParentDomainsStandOverPlainOnesOnly) {
  ibv_pd* domain = parent_domain(nullptr);
  ASSERT_NE(domain, nullptr);
  EXPECT_EQ(parent_domain(nullptr, domain), nullptr);
  EXPECT_EQ(errno, EINVAL);
  ibv_parent_domain_init_attr wanted{};
  EXPECT_EQ(allocate_parent_domain(context, &wanted), nullptr);
  EXPECT_EQ(errno, EINVAL);
  wanted.pd = pd;
  wanted.comp_mask = 1u << 9;
  EXPECT_EQ(allocate_parent_domain(context, &wanted), nullptr);
  EXPECT_EQ(errno, EOPNOTSUPP);
  wanted.comp_mask = IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS;
  EXPECT_EQ(allocate_parent_domain(context, &wanted), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(free_pd(domain), 0);
}

struct Allocations {
  int asked = 0;
  int freed = 0;
  bool decline = false;
};

void* allocate(ibv_pd*, void* context, size_t size, size_t alignment, uint64_t) {
  auto& all = *static_cast<Allocations*>(context);
  ++all.asked;
  return all.decline ? IBV_ALLOCATOR_USE_DEFAULT : std::aligned_alloc(alignment, size);
}
void release(ibv_pd*, void* context, void* at, uint64_t) {
  ++static_cast<Allocations*>(context)->freed;
  std::free(at);
}

TEST_F(Domains, AllocatorsOfAParentDomainAreAsked) {
  for (const bool decline : {false, true}) {
    Allocations all;
    all.decline = decline;
    ibv_parent_domain_init_attr wanted{};
    wanted.pd = pd;
    wanted.comp_mask =
        IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS | IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT;
    wanted.alloc = allocate;
    wanted.free = release;
    wanted.pd_context = &all;
    ibv_pd* domain = allocate_parent_domain(context, &wanted);
    ASSERT_NE(domain, nullptr);
    ibv_qp* qp = create_qp_like(attributes_on(cq, domain));
    ASSERT_NE(qp, nullptr);
    EXPECT_EQ(all.asked, 1);
    EXPECT_EQ(ibv_destroy_qp(qp), 0);
    qps.clear();
    EXPECT_EQ(all.freed, decline ? 0 : 1);
    EXPECT_EQ(free_pd(domain), 0);
  }
}

TEST_F(Domains, DeviceMemoryIsReachedInWords) {
  ibv_alloc_dm_attr wanted{};
  wanted.length = 4096;
  ibv_dm* dm = allocate_dm(context, &wanted);
  ASSERT_NE(dm, nullptr);
  char in[8] = "1234567", out[8] = {};
  EXPECT_EQ(ibv_memcpy_to_dm(dm, 4088, in, 8), 0);
  EXPECT_EQ(ibv_memcpy_from_dm(out, dm, 4088, 8), 0);
  EXPECT_STREQ(in, out);
  EXPECT_EQ(ibv_memcpy_to_dm(dm, 1, in, 4), EINVAL);
  EXPECT_EQ(ibv_memcpy_to_dm(dm, 4, in, 3), EINVAL);
  EXPECT_EQ(ibv_memcpy_to_dm(dm, 4092, in, 8), EINVAL);
  EXPECT_EQ(ibv_memcpy_from_dm(out, dm, UINT64_MAX - 3, 8), EINVAL);
  EXPECT_EQ(register_dm_mr(pd, dm, 0, 4096, IBV_ACCESS_LOCAL_WRITE), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(register_dm_mr(pd, dm, 1, 4096, IBV_ACCESS_ZERO_BASED), nullptr);
  ibv_mr* mr = register_dm_mr(pd, dm, 0, 4096, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ZERO_BASED);
  ASSERT_NE(mr, nullptr);
  EXPECT_EQ(mr->addr, nullptr);
  EXPECT_EQ(mr->length, 4096u);
  EXPECT_EQ(reregister_mr(reinterpret_cast<verbs_mr*>(mr), IBV_REREG_MR_CHANGE_ACCESS, nullptr,
                          nullptr, 0, 0),
            EOPNOTSUPP);
  EXPECT_EQ(ibv_dereg_mr(mr), 0);
  EXPECT_EQ(free_dm(dm), 0);
  wanted.length = protocol::kMaxDeviceMemoryBytes + 1;
  EXPECT_EQ(allocate_dm(context, &wanted), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(Domains, RegionsChangeTheirPlaceAndRights) {
  ibv_mr* mr = ibv_reg_mr(pd, from, sizeof from, kLocalWrite);
  ASSERT_NE(mr, nullptr);
  const uint32_t key = mr->lkey;
  EXPECT_EQ(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, nullptr, to, sizeof to, 0), 0);
  EXPECT_EQ(mr->addr, to);
  EXPECT_EQ(mr->lkey, key);
  EXPECT_EQ(
      ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, nullptr, nullptr, 0, IBV_ACCESS_REMOTE_WRITE),
      IBV_REREG_MR_ERR_CMD);
  EXPECT_EQ(errno, EINVAL);
  ibv_pd* other = ibv_alloc_pd(context);
  EXPECT_EQ(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_PD, other, nullptr, 0, 0), 0);
  EXPECT_EQ(mr->pd, other);
  EXPECT_EQ(ibv_dereg_mr(mr), 0);
  EXPECT_EQ(ibv_dealloc_pd(other), 0);
}

TEST_F(Domains, AdviceIsForOnDemandRegions) {
  ibv_mr* plain = ibv_reg_mr(pd, from, sizeof from, kLocalWrite);
  ibv_mr* paged = ibv_reg_mr(pd, to, sizeof to, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_ON_DEMAND);
  ASSERT_NE(paged, nullptr);
  const auto advise = [&](ibv_mr* mr, void* at, uint32_t length, uint32_t flags,
                          ib_uverbs_advise_mr_advice advice) {
    ibv_sge element{reinterpret_cast<uint64_t>(at), length, mr->lkey};
    return advise_mr(pd, advice, flags, &element, 1);
  };
  constexpr uint32_t kFlush = IBV_ADVISE_MR_FLAG_FLUSH;
  for (const auto advice : {IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
                            IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT}) {
    EXPECT_EQ(advise(paged, to, sizeof to, kFlush, advice), 0);
    EXPECT_EQ(advise(paged, to, sizeof to, 0, advice), 0);
    EXPECT_EQ(advise(plain, from, sizeof from, kFlush, advice), EFAULT);
    EXPECT_EQ(advise(paged, to + 1, sizeof to, kFlush, advice), EFAULT);
    EXPECT_EQ(advise(paged, to, sizeof to, 1u << 7, advice), EINVAL);
  }
  EXPECT_EQ(advise(paged, to, 1, 0, static_cast<ib_uverbs_advise_mr_advice>(3)), EOPNOTSUPP);
  EXPECT_EQ(advise_mr(pd, IBV_ADVISE_MR_ADVICE_PREFETCH, 0, nullptr, 0), EINVAL);
  EXPECT_EQ(ibv_dereg_mr(plain), 0);
  EXPECT_EQ(ibv_dereg_mr(paged), 0);
}

TEST_F(Domains, ECEHasNoOptions) {
  ibv_qp* qp = create_rc();
  ibv_ece ece{1, 2, 3};
  EXPECT_EQ(query_ece(qp, &ece), 0);
  EXPECT_NE(ece.vendor_id, 0u);
  EXPECT_EQ(ece.options, 0u);
  EXPECT_EQ(ece.comp_mask, 0u);
  EXPECT_EQ(set_ece(qp, &ece), 0);
  ece.options = 1;
  EXPECT_EQ(set_ece(qp, &ece), EINVAL);
}

TEST_F(Domains, RatesAreForQueuePairsThatSend) {
  ibv_qp* qp = create_rc();
  ibv_qp_rate_limit_attr limit{};
  limit.rate_limit = 100'000;
  EXPECT_EQ(modify_rate_limit(qp, &limit), EINVAL);
  connect(qp, qp->qp_num);
  EXPECT_EQ(modify_rate_limit(qp, &limit), 0);
  ibv_qp_attr attributes{};
  ibv_qp_init_attr initial{};
  EXPECT_EQ(ibv_query_qp(qp, &attributes, IBV_QP_RATE_LIMIT, &initial), 0);
  EXPECT_EQ(attributes.rate_limit, 100'000u);
  limit.rate_limit = 10;
  EXPECT_EQ(modify_rate_limit(qp, &limit), EINVAL);
  limit.rate_limit = 0;
  EXPECT_EQ(modify_rate_limit(qp, &limit), 0);
  attributes = {};
  attributes.rate_limit = 5000;
  EXPECT_EQ(ibv_modify_qp(qp, &attributes, IBV_QP_RATE_LIMIT), 0);
  attributes.qp_state = IBV_QPS_ERR;
  EXPECT_EQ(ibv_modify_qp(qp, &attributes, IBV_QP_STATE | IBV_QP_RATE_LIMIT), EINVAL);
}

}  // namespace
}  // namespace flexins::provider
