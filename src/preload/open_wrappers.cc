// open and openat, which take a mode only sometimes.

#include <fcntl.h>

#include <cstdarg>

#include "preload/cm_channel.h"
#include "preload/real.h"
#include "preload/redirect.h"

using flexins::preload::open_cm_channel;
using flexins::preload::Redirect;

namespace {

/// The optional argument after `flags`, which is only there if a file may be created.
mode_t mode_argument(int flags, va_list arguments) {
  const bool creates = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return creates ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

#define FLEXINS_OPEN_WRAPPER(name)                                 \
  FLEXINS_WRAPPER(int, name, (const char* path, int flags, ...)) { \
    va_list arguments;                                             \
    va_start(arguments, flags);                                    \
    const mode_t mode = mode_argument(flags, arguments);           \
    va_end(arguments);                                             \
    const Redirect here(path);                                     \
    if (here.stands_for_cm()) return open_cm_channel(flags);       \
    return FLEXINS_NEXT(name)(here.path(), flags, mode);           \
  }

#define FLEXINS_OPENAT_WRAPPER(name)                                       \
  FLEXINS_WRAPPER(int, name, (int at, const char* path, int flags, ...)) { \
    va_list arguments;                                                     \
    va_start(arguments, flags);                                            \
    const mode_t mode = mode_argument(flags, arguments);                   \
    va_end(arguments);                                                     \
    const Redirect here(path);                                             \
    if (here.stands_for_cm()) return open_cm_channel(flags);               \
    return FLEXINS_NEXT(name)(at, here.path(), flags, mode);               \
  }

FLEXINS_OPEN_WRAPPER(open)
FLEXINS_OPEN_WRAPPER(open64)
FLEXINS_OPENAT_WRAPPER(openat)
FLEXINS_OPENAT_WRAPPER(openat64)

// What open becomes where the program was built with checks: no file is created.

#define FLEXINS_CHECKED_OPEN_WRAPPER(name)                    \
  FLEXINS_WRAPPER(int, name, (const char* path, int flags)) { \
    const Redirect here(path);                                \
    if (here.stands_for_cm()) return open_cm_channel(flags);  \
    return FLEXINS_NEXT(name)(here.path(), flags);            \
  }

#define FLEXINS_CHECKED_OPENAT_WRAPPER(name)                          \
  FLEXINS_WRAPPER(int, name, (int at, const char* path, int flags)) { \
    const Redirect here(path);                                        \
    if (here.stands_for_cm()) return open_cm_channel(flags);          \
    return FLEXINS_NEXT(name)(at, here.path(), flags);                \
  }

FLEXINS_CHECKED_OPEN_WRAPPER(__open_2)
FLEXINS_CHECKED_OPEN_WRAPPER(__open64_2)
FLEXINS_CHECKED_OPENAT_WRAPPER(__openat_2)
FLEXINS_CHECKED_OPENAT_WRAPPER(__openat64_2)
