#include "preload/cm_ids.h"

#include <algorithm>
#include <mutex>
#include <vector>

namespace flexins::preload {
namespace {

struct Known {
  ino_t channel;
  uint32_t id;
  uint64_t uid;
  uint32_t events;
  bool removed;
};

struct Table {
  std::mutex mutex;
  std::vector<Known> ids;
};

/// Never destroyed: programs end with channels open.
Table& table() {
  static Table& table = *new Table;
  return table;
}

template <typename Match>
Known* find(Table& table, Match match) {
  const auto found = std::find_if(table.ids.begin(), table.ids.end(), match);
  return found == table.ids.end() ? nullptr : &*found;
}

}  // namespace

void note_id(ino_t channel, uint32_t id, uint64_t uid) {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  Known* known = find(all, [id](const Known& one) { return one.id == id; });
  if (known != nullptr) {
    *known = {channel, id, uid, known->events, false};
  } else {
    all.ids.push_back({channel, id, uid, 0, false});
  }
}

void note_migrated(ino_t channel, uint32_t id) {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  Known* known = find(all, [id](const Known& one) { return one.id == id; });
  if (known != nullptr) known->channel = channel;
}

void note_event(uint64_t uid) {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  Known* known = find(all, [uid](const Known& one) { return one.uid == uid; });
  if (known != nullptr) ++known->events;
}

uint32_t forget_id(uint32_t id) {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  Known* known = find(all, [id](const Known& one) { return one.id == id; });
  if (known == nullptr) return 0;
  const uint32_t events = known->events;
  *known = all.ids.back();
  all.ids.pop_back();
  return events;
}

bool next_removed(ino_t channel, uint32_t& id, uint64_t& uid) {
  Table& all = table();
  const std::lock_guard lock(all.mutex);
  Known* known =
      find(all, [channel](const Known& one) { return one.channel == channel && !one.removed; });
  if (known == nullptr) return false;
  known->removed = true;
  ++known->events;
  id = known->id;
  uid = known->uid;
  return true;
}

}  // namespace flexins::preload
