#include "provider/registry.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "provider/context.h"

namespace flexins::provider {
namespace {

/// Never destroyed: hooks may be called while the process exits.
struct Registry {
  std::mutex mutex;
  std::vector<Context*> contexts;
};

Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

void before_fork() { registry().mutex.lock(); }
void after_fork_in_parent() { registry().mutex.unlock(); }
void after_fork_in_child() {
  for (Context* context : registry().contexts) context->disown();
  registry().mutex.unlock();
}

int create_channel_hook(int cmd_fd) noexcept {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  for (Context* context : all.contexts) {
    if (context->face()->cmd_fd != cmd_fd) continue;
    try {
      return context->create_channel();
    } catch (...) {
      return -ENOMEM;
    }
  }
  return -ENOTTY;
}

ssize_t read_eof_hook(int fd, void* buffer, size_t length) noexcept {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  for (Context* context : all.contexts) {
    if (const ssize_t result = context->read_eof(fd, buffer, length); result != 0) return result;
  }
  return 0;
}

void channel_closing_hook(int fd) noexcept {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  for (Context* context : all.contexts) context->channel_closing(fd);
}

int async_descriptor_hook(int cmd_fd) noexcept {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  for (const Context* context : all.contexts) {
    if (context->face()->cmd_fd == cmd_fd) return context->async_fd();
  }
  return -ENOTTY;
}

constexpr flexins_preload_hooks kHooks = {
    .version = FLEXINS_PRELOAD_HOOKS_VERSION,
    .size = sizeof(flexins_preload_hooks),
    .create_channel = create_channel_hook,
    .read_eof = read_eof_hook,
    .channel_closing = channel_closing_hook,
    .async_descriptor = async_descriptor_hook,
};

}  // namespace

void register_context(Context* context) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.contexts.push_back(context);
}

void unregister_context(Context* context) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::erase(all.contexts, context);
}

Context* context_with_descriptor(int fd) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const pid_t us = ::getpid();
  for (Context* context : all.contexts) {
    // Every cmd_fd is the same device node; which open file it is only the kernel can tell.
    const auto theirs = static_cast<unsigned long>(context->face()->cmd_fd);
    const auto ours = static_cast<unsigned long>(fd);
    if (::syscall(SYS_kcmp, us, us, KCMP_FILE, ours, theirs) == 0) return context;
  }
  return nullptr;
}

const flexins_preload_hooks& preload_hooks() { return kHooks; }

void install_process_hooks() {
  ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  const auto announce = reinterpret_cast<flexins_preload_register_fn>(
      ::dlsym(RTLD_DEFAULT, FLEXINS_PRELOAD_REGISTER_NAME));
  if (announce != nullptr) announce(&kHooks);
}

}  // namespace flexins::provider
