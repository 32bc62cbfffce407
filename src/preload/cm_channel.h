#pragma once

#include <sys/types.h>

#include <cstddef>

/// /dev/infiniband/rdma_cm: the device of librdmacm. What a program gets for it is a connection to
/// the engine (protocol/messages_cm.h), so that poll, dup, fork and close are the kernel's affair.

namespace flexins::preload {

/// As open(2) with `flags` of the device: a descriptor, or -1 and errno (ENODEV: no engine).
int open_cm_channel(int flags);

/// Whether `fd` came from the former, in this process or in an ancestor. errno stays as it is.
bool is_cm_channel(int fd);

/// If `buffer` is a command and `fd` a channel, does it, and `result` is what write(2) returns
/// (errno is set where it is -1). False: none of ours.
bool cm_write(int fd, const void* buffer, size_t length, ssize_t& result);

}  // namespace flexins::preload
