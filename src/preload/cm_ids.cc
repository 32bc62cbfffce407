#include "preload/cm_ids.h"

#include <pthread.h>

#include <cstddef>
#include <cstdlib>

// No container of the C++ library: they can throw, and what throws needs more than the C library.

namespace flexins::preload {
namespace {

struct Known {
  ino_t channel;
  uint32_t id;
  uint64_t uid;
  uint32_t events;
  bool removed;
};

/// Never freed: programs end with channels open.
constinit Known* table = nullptr;
constinit size_t count = 0;
constinit size_t room = 0;
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

class Lock {
 public:
  Lock() { ::pthread_mutex_lock(&mutex); }
  ~Lock() { ::pthread_mutex_unlock(&mutex); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

template <typename Match>
Known* find(Match match) {
  for (size_t i = 0; i < count; ++i) {
    if (match(table[i])) return &table[i];
  }
  return nullptr;
}

Known* find_id(uint32_t id) {
  return find([id](const Known& one) { return one.id == id; });
}

}  // namespace

void note_id(ino_t channel, uint32_t id, uint64_t uid) {
  const Lock lock;
  if (Known* known = find_id(id)) {
    *known = {channel, id, uid, known->events, false};
    return;
  }
  if (count == room) {
    const size_t more = room == 0 ? 64 : 2 * room;
    auto* larger = static_cast<Known*>(std::realloc(table, more * sizeof(Known)));
    if (larger == nullptr) return;  // it is not told of a removal then
    table = larger;
    room = more;
  }
  table[count++] = {channel, id, uid, 0, false};
}

void note_migrated(ino_t channel, uint32_t id) {
  const Lock lock;
  if (Known* known = find_id(id)) known->channel = channel;
}

void note_event(uint64_t uid) {
  const Lock lock;
  if (Known* known = find([uid](const Known& one) { return one.uid == uid; })) ++known->events;
}

uint32_t forget_id(uint32_t id) {
  const Lock lock;
  Known* known = find_id(id);
  if (known == nullptr) return 0;
  const uint32_t events = known->events;
  *known = table[--count];
  return events;
}

bool next_removed(ino_t channel, uint32_t& id, uint64_t& uid) {
  const Lock lock;
  Known* known =
      find([channel](const Known& one) { return one.channel == channel && !one.removed; });
  if (known == nullptr) return false;
  known->removed = true;
  ++known->events;
  id = known->id;
  uid = known->uid;
  return true;
}

}  // namespace flexins::preload
