#pragma once

#include <sys/types.h>

#include <cstddef>

#include "protocol/preload_hooks.h"

/// The contexts of this process, for calls that name a context only by a descriptor, and for fork.

namespace flexins::provider {

class Context;

void register_context(Context* context);
void unregister_context(Context* context);
/// The context whose cmd_fd is a duplicate of `fd`, or null.
Context* context_with_descriptor(int fd);

/// Tells the preload library about us and arms the fork handler; once, when the library is loaded.
void install_process_hooks();

/// What the preload library is told.
const flexins_preload_hooks& preload_hooks();

}  // namespace flexins::provider
