#include "provider/driver.h"
#include "provider/registry.h"

namespace {

/// Runs when libibverbs loads the library.
__attribute__((constructor)) void register_driver() {
  flexins::provider::install_process_hooks();
  verbs_register_driver_34(&flexins::provider::device_ops());
}

}  // namespace
