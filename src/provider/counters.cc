#include "provider/counters.h"

#include <errno.h>

#include <algorithm>
#include <memory>

#include "base/verbs_types.h"
#include "protocol/messages_datagram.h"
#include "provider/context.h"
#include "provider/guard.h"

namespace flexins::provider {

ibv_counters* create_counters(ibv_context* face, ibv_counters_init_attr* attributes) {
  return null_on_error([&]() -> base::Result<ibv_counters*> {
    if (attributes->comp_mask != 0) return base::Error{EOPNOTSUPP, ""};
    auto counters = std::make_unique<Counters>();
    protocol::CreateCountersRequest request{};
    protocol::CreateCountersReply reply{};
    const int error = Context::of(face).call(request, reply);
    if (error != 0) return base::Error{error, ""};
    counters->face.context = face;
    counters->id = reply.counters;
    return &counters.release()->face;
  });
}

int attach_counters(ibv_counters* face, ibv_counter_attach_attr* attributes, ibv_flow* flow) {
  return errno_on_error([&] {
    constexpr size_t kMaxPoints = 64;
    const uint32_t what = number_of(attributes->counter_desc);
    const bool known = what == IBV_COUNTER_PACKETS || what == IBV_COUNTER_BYTES;
    if (flow != nullptr || !known || attributes->comp_mask != 0) return EOPNOTSUPP;
    if (attributes->index == UINT32_MAX) return EINVAL;
    Counters& counters = Counters::of(face);
    const std::lock_guard lock(counters.mutex);
    if (counters.flows > 0) return EBUSY;
    if (counters.points.size() >= kMaxPoints) return ENOMEM;
    counters.points.push_back(*attributes);
    return 0;
  });
}

int read_counters(ibv_counters* face, uint64_t* values, uint32_t count, uint32_t flags) {
  return errno_on_error([&] {
    // What the engine has is never older than what could be cached.
    if ((flags & ~uint32_t{IBV_READ_COUNTERS_ATTR_PREFER_CACHED}) != 0) return EOPNOTSUPP;
    Counters& counters = Counters::of(face);
    const std::lock_guard lock(counters.mutex);
    const auto fits = [&](const auto& point) { return point.index < count; };
    if (counters.points.empty() ||
        !std::all_of(counters.points.begin(), counters.points.end(), fits)) {
      return EINVAL;
    }
    protocol::ReadCountersRequest request{};
    protocol::ReadCountersReply reply{};
    request.counters = counters.id;
    const int error = Context::of(face->context).call(request, reply);
    if (error != 0) return error;
    std::fill_n(values, count, 0);
    for (const ibv_counter_attach_attr& point : counters.points) {
      values[point.index] +=
          point.counter_desc == IBV_COUNTER_PACKETS ? reply.counts.packets : reply.counts.bytes;
    }
    return 0;
  });
}

int destroy_counters(ibv_counters* face) {
  return errno_on_error([&] {
    Counters& counters = Counters::of(face);
    {
      // Also of flows that went with their QP: the program still has to destroy them.
      const std::lock_guard lock(counters.mutex);
      if (counters.flows > 0) return EBUSY;
    }
    protocol::DestroyCountersRequest request{};
    request.counters = counters.id;
    const int error = Context::of(face->context).call_to_free(request);
    if (error == 0) delete &counters;
    return error;
  });
}

}  // namespace flexins::provider
