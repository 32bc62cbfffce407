#pragma once

#include <atomic>

/// The C library's own functions behind our wrappers, and how a wrapper is defined.

namespace flexins::preload {

enum class Function {
#define FLEXINS_FUNCTION(name) k_##name,
#include "preload/functions.inc"
#undef FLEXINS_FUNCTION
  kCount,
};

/// Where the next definition of `function` is. Looks it up at first use, before our constructor
/// ran; afterwards a load. A function that the C library lacks cannot have been called by anybody.
void* real_address(Function function);

template <typename Signature>
Signature* real(Function function) {
  return reinterpret_cast<Signature*>(real_address(function));
}

}  // namespace flexins::preload

/// Declares `type wrapped_NAME parameters` as the definition of the C library's NAME. The label,
/// and not a function called NAME, because the headers of the C library declare, inline and alias
/// NAME.
#define FLEXINS_DECLARE_WRAPPER(type, name, parameters) \
  extern "C" __attribute__((visibility("default"))) type wrapped_##name parameters __asm__(#name)

/// Opens the definition of a wrapper; inside, `next` is the C library's function.
#define FLEXINS_WRAPPER(type, name, parameters)    \
  FLEXINS_DECLARE_WRAPPER(type, name, parameters); \
  type wrapped_##name parameters

#define FLEXINS_NEXT(name) \
  (::flexins::preload::real<decltype(wrapped_##name)>(::flexins::preload::Function::k_##name))
