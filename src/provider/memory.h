#pragma once

#include <vector>

#include "protocol/messages.h"
#include "provider/abi.h"
#include "window/client.h"

/// Memory regions; device_memory.h has those without memory of the program's.

namespace flexins::provider {

class Context;

struct Mr {
  enum class Kind : uint8_t {
    kProgram,   ///< memory of the program
    kDevice,    ///< the null region, device memory
    kImported,  ///< another context's; not ours to free
  };
  verbs_mr face{};  ///< first: libibverbs' pointer is ours
  Context* context = nullptr;
  Kind kind = Kind::kProgram;
  uint64_t ticket = 0;  ///< of the prepared pages
  bool prepared = false;

  static Mr& of(ibv_mr* face) { return *reinterpret_cast<Mr*>(face); }
};

ibv_mr* register_mr(ibv_pd* pd, void* address, size_t length, uint64_t iova, int access);
int reregister_mr(verbs_mr* mr, int flags, ibv_pd* pd, void* address, size_t length, int access);
int deregister_mr(verbs_mr* mr);
/// EFAULT: an element lies in no region of `pd` with on-demand paging; EPERM, EOPNOTSUPP, EINVAL.
int advise_mr(ibv_pd* pd, ib_uverbs_advise_mr_advice advice, uint32_t flags, ibv_sge* list,
              uint32_t count);
/// `handle`: of a region of the context that the PD's was imported from.
ibv_mr* import_mr(ibv_pd* pd, uint32_t handle);
void unimport_mr(ibv_mr* mr);

/// Fills in what programs read of a region that the engine has just given `key`.
void fill_region(Mr& mr, ibv_pd* pd, uint32_t key, void* address, size_t length, int access);

/// Writes what one message can carry of `segments` into `request`: the longest, if there are too
/// many, or too many objects behind them. Returns the descriptors to send along.
std::vector<int> pack_segments(std::vector<window::ClientSegment> segments,
                               protocol::RegisterMrRequest& request);

/// 0 or EINVAL for these ibv_access_flags.
[[nodiscard]] int check_access(int access);

}  // namespace flexins::provider
