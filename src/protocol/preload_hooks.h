#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// How the provider and the preload library meet inside one process. The preload library is global
/// (LD_PRELOAD), the provider is loaded with local symbols; so the preload exports
/// `flexins_preload_register`, and the provider finds it with dlsym(RTLD_DEFAULT, …) when it is
/// loaded and hands over its hooks. They stay valid until the process ends: the provider is never
/// unloaded. A C ABI: fields are only ever added at the end, and `size` says how many there are.

#ifdef __cplusplus
extern "C" {
#endif

#define FLEXINS_PRELOAD_HOOKS_VERSION 1
#define FLEXINS_PRELOAD_REGISTER_NAME "flexins_preload_register"

struct flexins_preload_hooks {
  uint32_t version;  ///< FLEXINS_PRELOAD_HOOKS_VERSION
  uint32_t size;     ///< sizeof of this struct where it was compiled

  /// libibverbs writes IB_USER_VERBS_CMD_CREATE_COMP_CHANNEL to `cmd_fd`, the descriptor that it
  /// opened for the character device. Returns a new descriptor for the response (the program closes
  /// it), -ENOTTY when `cmd_fd` belongs to no context of ours, else another -errno.
  int (*create_channel)(int cmd_fd);

  /// A read() of `length` bytes from `fd` has just returned 0. When `fd` is an event descriptor of
  /// ours its engine has died, and the program gets one last event of every kind that it may be
  /// waiting for. Returns the bytes put into `buffer` (what read() is to return), 0 when `fd` is
  /// not ours, or -errno (read() fails with it). Safe to call for any descriptor, from any thread;
  /// not from a signal handler.
  ssize_t (*read_eof)(int fd, void* buffer, size_t length);

  /// The program is about to close `fd`, which create_channel returned. Optional: without it the
  /// engine frees the channel when the context closes.
  void (*channel_closing)(int fd);

  /// libibverbs asks the device behind `cmd_fd` for its descriptor of asynchronous events. Returns
  /// it, or -ENOTTY when `cmd_fd` belongs to no context of ours. Optional: without it a device
  /// cannot be imported.
  int (*async_descriptor)(int cmd_fd);
};

/// Exported by the preload library. `hooks` stays valid. Returns 0, or -EPROTONOSUPPORT when the
/// version is not understood.
typedef int (*flexins_preload_register_fn)(const struct flexins_preload_hooks* hooks);

#ifdef __cplusplus
}
#endif
