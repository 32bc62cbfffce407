#include "provider/events.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "base/unique_fd.h"

namespace flexins::provider {

void purge_events(int fd, size_t record_bytes, uint64_t cookie) {
  // Own open descriptions: the program's may be blocking, and it has no end to write to.
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const base::UniqueFd in(::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const base::UniqueFd out(::open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (!in.valid() || !out.valid()) return;
  // Another thread that purges may hold our records in its hand, to put them back when we have
  // looked. Closing `in` unlocks.
  while (::flock(in.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return;
  }
  int waiting = 0;
  if (::ioctl(in.get(), FIONREAD, &waiting) != 0) return;
  std::vector<char> record(record_bytes);
  // Each record that is there now is read once; those written meanwhile are not of this element.
  for (int left = waiting / static_cast<int>(record_bytes); left > 0; --left) {
    if (::read(in.get(), record.data(), record_bytes) != static_cast<ssize_t>(record_bytes)) return;
    uint64_t found;
    std::memcpy(&found, record.data(), sizeof found);
    if (found == cookie) continue;
    [[maybe_unused]] const ssize_t kept = ::write(out.get(), record.data(), record_bytes);
  }
}

void settle_events(const ObjectEvents& events, std::optional<uint32_t> read) {
  if (!read && events.fd >= 0) purge_events(events.fd, events.record_bytes, events.cookie);
  ::pthread_mutex_lock(&events.mutex);
  while (events.acknowledged !=
         (read ? *read : events.handed_out.load(std::memory_order_acquire))) {
    ::pthread_cond_wait(&events.condition, &events.mutex);
  }
  ::pthread_mutex_unlock(&events.mutex);
}

}  // namespace flexins::provider
