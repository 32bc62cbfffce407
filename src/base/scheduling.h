#pragma once

namespace flexins::base {

/// Asks the scheduler for short slices (0.1 ms) for the calling thread: a thread with a shorter
/// slice may run at once when it is woken (Linux 6.12 and later; needs no privilege). For threads
/// that run briefly and often, beside programs that spin. Where it is not known, nothing is lost.
void ask_for_short_slices() noexcept;

}  // namespace flexins::base
