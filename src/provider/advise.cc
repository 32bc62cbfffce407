#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "provider/context.h"
#include "provider/guard.h"
#include "provider/memory.h"

// ibv_advise_mr: faults pages of on-demand regions in ahead of their use. The engine reaches such
// regions through the address space, so a page that is present for us is present for it.

namespace flexins::provider {
namespace {

/// 0 or an errno value; EFAULT where the element is not in a region of `pd` on demand.
int check_element(Context& context, const ibv_pd* pd, const ibv_sge& element, bool write) {
  const auto found = context.find_region(element.lkey);
  if (!found) return EFAULT;
  if (found->pd != pd->handle || (found->access & IBV_ACCESS_ON_DEMAND) == 0) return EFAULT;
  if (write && (found->access & IBV_ACCESS_LOCAL_WRITE) == 0) return EPERM;
  const uint64_t start = (found->access & IBV_ACCESS_ZERO_BASED) != 0 ? 0 : found->address;
  if (element.addr < start || element.length > found->length ||
      element.addr - start > found->length - element.length) {
    return EFAULT;
  }
  return 0;
}

/// Faults the element's pages in. An implicit region is as large as the address space, and not all
/// of that is mapped: EFAULT.
int populate(Context& context, const ibv_sge& element, bool write) {
  if (element.length == 0) return 0;
  const auto found = context.find_region(element.lkey);
  if (!found) return EFAULT;
  const bool zero_based = (found->access & IBV_ACCESS_ZERO_BASED) != 0;
  const uint64_t address = element.addr + (zero_based ? found->address : 0);
  const auto page = static_cast<uint64_t>(::getpagesize());
  const uint64_t begin = address & ~(page - 1);
  const uint64_t end = (address + element.length + page - 1) & ~(page - 1);
  if (::madvise(reinterpret_cast<void*>(begin), end - begin,
                write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0) {
    return 0;
  }
  // A kernel before 5.14 knows no such advice, and an advice may go unheeded.
  return errno == EINVAL ? 0 : EFAULT;
}

}  // namespace

int advise_mr(ibv_pd* pd, ib_uverbs_advise_mr_advice advice, uint32_t flags, ibv_sge* list,
              uint32_t count) {
  return errno_on_error([&] {
    const uint32_t wanted = number_of(advice);
    const bool write = wanted == IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE;
    const bool no_fault = wanted == IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT;
    if (!write && !no_fault && wanted != IBV_ADVISE_MR_ADVICE_PREFETCH) return EOPNOTSUPP;
    if ((flags & ~uint32_t{IBV_ADVISE_MR_FLAG_FLUSH}) != 0 || count == 0) return EINVAL;
    Context& context = Context::of(pd->context);
    if (!context.live()) return EIO;
    for (uint32_t i = 0; i < count; ++i) {
      if (const int error = check_element(context, pd, list[i], write); error != 0) return error;
    }
    // Only what is there already: nothing to do, since no page table of a device is behind.
    if (no_fault) return 0;
    for (uint32_t i = 0; i < count; ++i) {
      const int error = populate(context, list[i], write);
      // Without the flag the work would go on after the call, and nobody would hear of it.
      if (error != 0 && (flags & IBV_ADVISE_MR_FLAG_FLUSH) != 0) return error;
    }
    return 0;
  });
}

}  // namespace flexins::provider
