#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "protocol/messages.h"

namespace flexins::provider {

/// Takes the records of `cookie` (their first 8 bytes) out of the pipe `fd`, whose element is being
/// destroyed: the program must not get events for it any more. Other records keep their order.
void purge_events(int fd, size_t record_bytes, uint64_t cookie);

/// Events of one kind of an object that is being destroyed.
struct ObjectEvents {
  pthread_mutex_t& mutex;
  pthread_cond_t& condition;
  const uint32_t& acknowledged;
  const std::atomic<uint32_t>& handed_out;  ///< by libibverbs
  int fd;                                   ///< the pipe that they come through
  size_t record_bytes;
  uint64_t cookie;
};

/// Returns when the object may be freed: no event is left that names it, and the program has
/// acknowledged all that were read. `read`: how many, as the engine counts. A thread may have read
/// one just now, with libibverbs about to use the object in it, so that those handed out are too
/// few; but where the engine has died they are all that is known.
void settle_events(const ObjectEvents& events, std::optional<uint32_t> read);

/// What a DestroyReply, if there is one, says of either kind.
inline std::optional<uint32_t> completion_events(const std::optional<protocol::DestroyReply>& r) {
  return r ? std::optional(r->completion_events) : std::nullopt;
}
inline std::optional<uint32_t> async_events(const std::optional<protocol::DestroyReply>& r) {
  return r ? std::optional(r->async_events) : std::nullopt;
}

/// Bytes of an async record and of a completion record (struct ib_uverbs_async_event_desc and
/// ib_uverbs_comp_event_desc).
inline constexpr size_t kAsyncRecordBytes = 16;
inline constexpr size_t kCompletionRecordBytes = 8;

}  // namespace flexins::provider
