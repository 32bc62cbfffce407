// Functions that take a path and give no path back: each hands the redirected path on. Buffers of
// `struct stat` and the like are only passed through, so their types do not matter here.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "preload/real.h"
#include "preload/redirect.h"

using flexins::preload::Redirect;

#define FLEXINS_PATH_WRAPPER(type, name, parameters, ...) \
  FLEXINS_WRAPPER(type, name, parameters) {               \
    const Redirect here(path);                            \
    return FLEXINS_NEXT(name)(__VA_ARGS__);               \
  }

using Path = const char*;
using Opaque = void*;
using ScanFilter = int (*)(const void*);
using ScanCompare = int (*)(const void**, const void**);

FLEXINS_PATH_WRAPPER(Opaque, fopen, (Path path, Path mode), here.path(), mode)
FLEXINS_PATH_WRAPPER(Opaque, fopen64, (Path path, Path mode), here.path(), mode)
FLEXINS_PATH_WRAPPER(Opaque, freopen, (Path path, Path mode, Opaque stream), here.path(), mode,
                     stream)
FLEXINS_PATH_WRAPPER(Opaque, freopen64, (Path path, Path mode, Opaque stream), here.path(), mode,
                     stream)
FLEXINS_PATH_WRAPPER(Opaque, opendir, (Path path), here.path())
FLEXINS_PATH_WRAPPER(int, scandir, (Path path, Opaque list, ScanFilter filter, ScanCompare compare),
                     here.path(), list, filter, compare)
FLEXINS_PATH_WRAPPER(int, scandir64,
                     (Path path, Opaque list, ScanFilter filter, ScanCompare compare), here.path(),
                     list, filter, compare)
FLEXINS_PATH_WRAPPER(int, scandirat,
                     (int at, Path path, Opaque list, ScanFilter filter, ScanCompare compare), at,
                     here.path(), list, filter, compare)
FLEXINS_PATH_WRAPPER(int, scandirat64,
                     (int at, Path path, Opaque list, ScanFilter filter, ScanCompare compare), at,
                     here.path(), list, filter, compare)
FLEXINS_PATH_WRAPPER(int, chdir, (Path path), here.path())

FLEXINS_PATH_WRAPPER(int, stat, (Path path, Opaque out), here.path(), out)
FLEXINS_PATH_WRAPPER(int, stat64, (Path path, Opaque out), here.path(), out)
FLEXINS_PATH_WRAPPER(int, lstat, (Path path, Opaque out), here.path(), out)
FLEXINS_PATH_WRAPPER(int, lstat64, (Path path, Opaque out), here.path(), out)
FLEXINS_PATH_WRAPPER(int, fstatat, (int at, Path path, Opaque out, int flags), at, here.path(), out,
                     flags)
FLEXINS_PATH_WRAPPER(int, fstatat64, (int at, Path path, Opaque out, int flags), at, here.path(),
                     out, flags)
FLEXINS_PATH_WRAPPER(int, __xstat, (int version, Path path, Opaque out), version, here.path(), out)
FLEXINS_PATH_WRAPPER(int, __xstat64, (int version, Path path, Opaque out), version, here.path(),
                     out)
FLEXINS_PATH_WRAPPER(int, __lxstat, (int version, Path path, Opaque out), version, here.path(), out)
FLEXINS_PATH_WRAPPER(int, __lxstat64, (int version, Path path, Opaque out), version, here.path(),
                     out)
FLEXINS_PATH_WRAPPER(int, __fxstatat, (int version, int at, Path path, Opaque out, int flags),
                     version, at, here.path(), out, flags)
FLEXINS_PATH_WRAPPER(int, __fxstatat64, (int version, int at, Path path, Opaque out, int flags),
                     version, at, here.path(), out, flags)
FLEXINS_PATH_WRAPPER(int, statx, (int at, Path path, int flags, unsigned mask, Opaque out), at,
                     here.path(), flags, mask, out)
FLEXINS_PATH_WRAPPER(int, statfs, (Path path, Opaque out), here.path(), out)
FLEXINS_PATH_WRAPPER(int, statfs64, (Path path, Opaque out), here.path(), out)
FLEXINS_PATH_WRAPPER(int, statvfs, (Path path, Opaque out), here.path(), out)
FLEXINS_PATH_WRAPPER(int, statvfs64, (Path path, Opaque out), here.path(), out)
FLEXINS_PATH_WRAPPER(int, access, (Path path, int mode), here.path(), mode)
FLEXINS_PATH_WRAPPER(int, eaccess, (Path path, int mode), here.path(), mode)
FLEXINS_PATH_WRAPPER(int, euidaccess, (Path path, int mode), here.path(), mode)
FLEXINS_PATH_WRAPPER(int, faccessat, (int at, Path path, int mode, int flags), at, here.path(),
                     mode, flags)
FLEXINS_PATH_WRAPPER(ssize_t, getxattr, (Path path, Path name, Opaque out, size_t size),
                     here.path(), name, out, size)
FLEXINS_PATH_WRAPPER(ssize_t, lgetxattr, (Path path, Path name, Opaque out, size_t size),
                     here.path(), name, out, size)
FLEXINS_PATH_WRAPPER(ssize_t, listxattr, (Path path, char* out, size_t size), here.path(), out,
                     size)
FLEXINS_PATH_WRAPPER(ssize_t, llistxattr, (Path path, char* out, size_t size), here.path(), out,
                     size)
FLEXINS_PATH_WRAPPER(int, inotify_add_watch, (int fd, Path path, uint32_t mask), fd, here.path(),
                     mask)

// The tree's own links are relative, as in sysfs: their targets need no translation.
FLEXINS_PATH_WRAPPER(ssize_t, readlink, (Path path, char* out, size_t size), here.path(), out, size)
FLEXINS_PATH_WRAPPER(ssize_t, readlinkat, (int at, Path path, char* out, size_t size), at,
                     here.path(), out, size)
FLEXINS_PATH_WRAPPER(ssize_t, __readlink_chk, (Path path, char* out, size_t size, size_t room),
                     here.path(), out, size, room)
FLEXINS_PATH_WRAPPER(ssize_t, __readlinkat_chk,
                     (int at, Path path, char* out, size_t size, size_t room), at, here.path(), out,
                     size, room)
