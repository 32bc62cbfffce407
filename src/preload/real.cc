#include "preload/real.h"

#include <dlfcn.h>

#include <cstddef>

namespace flexins::preload {
namespace {

constexpr const char* kNames[] = {
#define FLEXINS_FUNCTION(name) #name,
#include "preload/functions.inc"
#undef FLEXINS_FUNCTION
};

// Constant-initialised: usable before any constructor.
constinit std::atomic<void*> addresses[static_cast<size_t>(Function::kCount)];

/// Everything at once, so that later calls, from signal handlers too, never take the linker's lock.
__attribute__((constructor)) void look_up_all() {
  for (size_t i = 0; i < static_cast<size_t>(Function::kCount); ++i) {
    real_address(static_cast<Function>(i));
  }
}

}  // namespace

void* real_address(Function function) {
  std::atomic<void*>& slot = addresses[static_cast<size_t>(function)];
  void* address = slot.load(std::memory_order_relaxed);
  if (__builtin_expect(address == nullptr, 0)) {
    address = ::dlsym(RTLD_NEXT, kNames[static_cast<size_t>(function)]);
    slot.store(address, std::memory_order_relaxed);
  }
  return address;
}

}  // namespace flexins::preload
