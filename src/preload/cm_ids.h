#pragma once

#include <sys/types.h>

#include <cstdint>

/// Which ids a program has, for the day on which the engine is gone: the kernel would tell of a
/// removed device then, and would still know how many events it has reported.

namespace flexins::preload {

/// `channel`: inode of a channel's socket. `uid`: the program's name for the id, as in its events.
void note_id(ino_t channel, uint32_t id, uint64_t uid);
void note_migrated(ino_t channel, uint32_t id);
void note_event(uint64_t uid);
/// Returns how many events it was given. 0 for an unknown one.
uint32_t forget_id(uint32_t id);

/// An id of `channel` that has not been told of the removal; it counts as told, and as one event.
/// False: none.
bool next_removed(ino_t channel, uint32_t& id, uint64_t& uid);

}  // namespace flexins::preload
