// Functions that answer with paths: the program never sees where the tree really is.

#include <dirent.h>
#include <glob.h>

#include <cstdlib>
#include <cstring>

#include "preload/real.h"
#include "preload/redirect.h"

using flexins::preload::Redirect;
using flexins::preload::restore_path;

namespace {

/// `answer` of the C library (null: failed) as the program's world has it.
char* restored(char* answer) {
  if (answer != nullptr) restore_path(answer);
  return answer;
}

/// The device's path is its own answer: the stand-in's name would be wrong.
char* own_name(const char* path, char* resolved) {
  return resolved != nullptr ? std::strcpy(resolved, path) : ::strdup(path);
}

}  // namespace

FLEXINS_WRAPPER(char*, realpath, (const char* path, char* resolved)) {
  const Redirect here(path);
  if (here.stands_for_node()) return own_name(path, resolved);
  return restored(FLEXINS_NEXT(realpath)(here.path(), resolved));
}

FLEXINS_WRAPPER(char*, __realpath_chk, (const char* path, char* resolved, size_t room)) {
  const Redirect here(path);
  if (here.stands_for_node()) return own_name(path, resolved);
  return restored(FLEXINS_NEXT(__realpath_chk)(here.path(), resolved, room));
}

FLEXINS_WRAPPER(char*, canonicalize_file_name, (const char* path)) {
  const Redirect here(path);
  if (here.stands_for_node()) return own_name(path, nullptr);
  return restored(FLEXINS_NEXT(canonicalize_file_name)(here.path()));
}

// A program may have changed into the tree.
FLEXINS_WRAPPER(char*, getcwd, (char* buffer, size_t size)) {
  return restored(FLEXINS_NEXT(getcwd)(buffer, size));
}

FLEXINS_WRAPPER(char*, __getcwd_chk, (char* buffer, size_t size, size_t room)) {
  return restored(FLEXINS_NEXT(__getcwd_chk)(buffer, size, room));
}

FLEXINS_WRAPPER(char*, get_current_dir_name, ()) {
  return restored(FLEXINS_NEXT(get_current_dir_name)());
}

// glob reads directories inside the C library, but lets the caller say how. So its answers are in
// the program's terms without any translation back.

FLEXINS_DECLARE_WRAPPER(void*, opendir, (const char* path));
FLEXINS_DECLARE_WRAPPER(int, stat, (const char* path, void* out));
FLEXINS_DECLARE_WRAPPER(int, lstat, (const char* path, void* out));

namespace {

struct GlobFunctions {
  void (*close)(void*);
  struct dirent* (*read)(void*);
  void* (*open)(const char*);
  int (*link_status)(const char*, struct stat*);
  int (*status)(const char*, struct stat*);
};

GlobFunctions exchange(glob_t& state, const GlobFunctions& functions) {
  const GlobFunctions old{state.gl_closedir, state.gl_readdir, state.gl_opendir, state.gl_lstat,
                          state.gl_stat};
  state.gl_closedir = functions.close;
  state.gl_readdir = functions.read;
  state.gl_opendir = functions.open;
  state.gl_lstat = functions.link_status;
  state.gl_stat = functions.status;
  return old;
}

constexpr GlobFunctions kRedirectingFunctions{
    [](void* directory) { ::closedir(static_cast<DIR*>(directory)); },
    [](void* directory) { return ::readdir(static_cast<DIR*>(directory)); },
    [](const char* path) { return wrapped_opendir(path); },
    [](const char* path, struct stat* out) { return wrapped_lstat(path, out); },
    [](const char* path, struct stat* out) { return wrapped_stat(path, out); },
};

using GlobError = int (*)(const char*, int);
using Glob = int(const char*, int, GlobError, glob_t*);

int redirecting_glob(Glob* next, const char* pattern, int flags, GlobError error, glob_t* state) {
  if (!flexins::preload::active() || (flags & GLOB_ALTDIRFUNC) != 0) {
    return next(pattern, flags, error, state);
  }
  const GlobFunctions old = exchange(*state, kRedirectingFunctions);
  const int status = next(pattern, flags | GLOB_ALTDIRFUNC, error, state);
  exchange(*state, old);
  state->gl_flags &= ~GLOB_ALTDIRFUNC;
  return status;
}

}  // namespace

FLEXINS_WRAPPER(int, glob, (const char* pattern, int flags, GlobError error, glob_t* state)) {
  return redirecting_glob(FLEXINS_NEXT(glob), pattern, flags, error, state);
}

// On 64-bit machines glob64_t is glob_t.
static_assert(sizeof(glob64_t) == sizeof(glob_t));
FLEXINS_WRAPPER(int, glob64, (const char* pattern, int flags, GlobError error, glob_t* state)) {
  return redirecting_glob(FLEXINS_NEXT(glob64), pattern, flags, error, state);
}
