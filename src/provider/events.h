#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace flexins::provider {

/// Takes the records of `cookie` (their first 8 bytes) out of the pipe `fd`, whose element is being
/// destroyed: the program must not get events for it any more. Other records keep their order.
void purge_events(int fd, size_t record_bytes, uint64_t cookie);

/// Waits until the program has acknowledged as many events as it was given.
void await_acknowledgements(pthread_mutex_t& mutex, pthread_cond_t& condition,
                            const uint32_t& acknowledged, const std::atomic<uint32_t>& reported);

/// Bytes of an async record and of a completion record (struct ib_uverbs_async_event_desc and
/// ib_uverbs_comp_event_desc).
inline constexpr size_t kAsyncRecordBytes = 16;
inline constexpr size_t kCompletionRecordBytes = 8;

}  // namespace flexins::provider
