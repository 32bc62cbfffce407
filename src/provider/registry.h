#pragma once

#include <sys/types.h>

#include <cstddef>

/// The contexts of this process, for calls that name a context only by a descriptor, and for fork.

namespace flexins::provider {

class Context;

void register_context(Context* context);
void unregister_context(Context* context);

/// Tells the preload library about us and arms the fork handler; once, when the library is loaded.
void install_process_hooks();

}  // namespace flexins::provider
