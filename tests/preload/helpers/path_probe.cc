// Calls every function of the C library that takes a path, by its name, and prints "NAME ok" or
// "NAME ERROR". path_probe FILE DIRECTORY LINK: paths of the kinds that the functions want.

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

const char* file;
const char* directory;
const char* link_path;

template <typename Signature>
Signature* function(const char* name) {
  return reinterpret_cast<Signature*>(::dlsym(RTLD_DEFAULT, name));
}

void report(const char* name, bool succeeded) {
  std::printf("%s %s\n", name, succeeded ? "ok" : std::strerror(errno));
}

alignas(64) char buffer[8192];

void probe_open() {
  for (const char* name : {"open", "open64"}) {
    report(name, function<int(const char*, int, ...)>(name)(file, O_RDONLY) >= 0);
  }
  for (const char* name : {"openat", "openat64"}) {
    report(name, function<int(int, const char*, int, ...)>(name)(-1, file, O_RDONLY) >= 0);
  }
  for (const char* name : {"__open_2", "__open64_2"}) {
    report(name, function<int(const char*, int)>(name)(file, O_RDONLY) >= 0);
  }
  for (const char* name : {"__openat_2", "__openat64_2"}) {
    report(name, function<int(int, const char*, int)>(name)(-1, file, O_RDONLY) >= 0);
  }
  for (const char* name : {"fopen", "fopen64"}) {
    report(name, function<FILE*(const char*, const char*)>(name)(file, "r") != nullptr);
  }
  for (const char* name : {"freopen", "freopen64"}) {
    FILE* stream = std::fopen("/dev/null", "r");
    report(name,
           function<FILE*(const char*, const char*, FILE*)>(name)(file, "r", stream) != nullptr);
  }
}

void probe_directories() {
  report("opendir", function<DIR*(const char*)>("opendir")(directory) != nullptr);
  using List = struct dirent**;
  List list;
  for (const char* name : {"scandir", "scandir64"}) {
    auto* scan = function<int(const char*, List*, void*, void*)>(name);
    report(name, scan(directory, &list, nullptr, nullptr) > 0);
  }
  for (const char* name : {"scandirat", "scandirat64"}) {
    auto* scan = function<int(int, const char*, List*, void*, void*)>(name);
    report(name, scan(-1, directory, &list, nullptr, nullptr) > 0);
  }
  for (const char* name : {"glob", "glob64"}) {
    glob_t found{};
    char pattern[256];
    std::snprintf(pattern, sizeof pattern, "%s/*", directory);
    const int status =
        function<int(const char*, int, void*, glob_t*)>(name)(pattern, 0, nullptr, &found);
    errno = ENOENT;
    report(name, status == 0 && found.gl_pathc > 0 &&
                     std::strncmp(found.gl_pathv[0], directory, std::strlen(directory)) == 0);
  }
}

void probe_status() {
  for (const char* name :
       {"stat", "stat64", "lstat", "lstat64", "statfs", "statfs64", "statvfs", "statvfs64"}) {
    report(name, function<int(const char*, void*)>(name)(file, buffer) == 0);
  }
  for (const char* name : {"fstatat", "fstatat64"}) {
    report(name, function<int(int, const char*, void*, int)>(name)(-1, file, buffer, 0) == 0);
  }
  for (const char* name : {"__xstat", "__xstat64", "__lxstat", "__lxstat64"}) {
    report(name, function<int(int, const char*, void*)>(name)(1, file, buffer) == 0);
  }
  for (const char* name : {"__fxstatat", "__fxstatat64"}) {
    report(name,
           function<int(int, int, const char*, void*, int)>(name)(1, -1, file, buffer, 0) == 0);
  }
  auto* statx_function = function<int(int, const char*, int, unsigned, void*)>("statx");
  report("statx", statx_function(-1, file, 0, 0x7ff, buffer) == 0);
  for (const char* name : {"access", "eaccess", "euidaccess"}) {
    report(name, function<int(const char*, int)>(name)(file, R_OK) == 0);
  }
  auto* access_at = function<int(int, const char*, int, int)>("faccessat");
  report("faccessat", access_at(-1, file, R_OK, 0) == 0);
  const int watch = ::inotify_init();
  report("inotify_add_watch",
         function<int(int, const char*, uint32_t)>("inotify_add_watch")(watch, file, IN_OPEN) >= 0);
}

/// Files without attributes: that there are none, or no such attribute, is the good answer.
void probe_attributes() {
  for (const char* name : {"getxattr", "lgetxattr"}) {
    auto* get = function<ssize_t(const char*, const char*, void*, size_t)>(name);
    const ssize_t got = get(file, "user.none", buffer, sizeof buffer);
    report(name, got >= 0 || errno == ENODATA || errno == EOPNOTSUPP);
  }
  for (const char* name : {"listxattr", "llistxattr"}) {
    auto* list = function<ssize_t(const char*, void*, size_t)>(name);
    report(name, list(file, buffer, sizeof buffer) >= 0 || errno == EOPNOTSUPP);
  }
}

void probe_answers() {
  report("readlink",
         function<ssize_t(const char*, char*, size_t)>("readlink")(link_path, buffer, 99) > 0);
  auto* at = function<ssize_t(int, const char*, char*, size_t)>("readlinkat");
  report("readlinkat", at(-1, link_path, buffer, 99) > 0);
  auto* checked = function<ssize_t(const char*, char*, size_t, size_t)>("__readlink_chk");
  report("__readlink_chk", checked(link_path, buffer, 99, 99) > 0);
  auto* checked_at = function<ssize_t(int, const char*, char*, size_t, size_t)>("__readlinkat_chk");
  report("__readlinkat_chk", checked_at(-1, link_path, buffer, 99, 99) > 0);
  const auto in_sysfs = [](const char* answer) {
    return answer != nullptr && std::strncmp(answer, "/sys/", 5) == 0;
  };
  report("realpath", in_sysfs(function<char*(const char*, char*)>("realpath")(file, nullptr)));
  auto* checked_path = function<char*(const char*, char*, size_t)>("__realpath_chk");
  report("__realpath_chk", in_sysfs(checked_path(file, buffer, sizeof buffer)));
  report("canonicalize_file_name",
         in_sysfs(function<char*(const char*)>("canonicalize_file_name")(file)));
  report("chdir", function<int(const char*)>("chdir")(directory) == 0);
  report("getcwd", in_sysfs(function<char*(char*, size_t)>("getcwd")(buffer, sizeof buffer)));
  auto* checked_cwd = function<char*(char*, size_t, size_t)>("__getcwd_chk");
  report("__getcwd_chk", in_sysfs(checked_cwd(buffer, sizeof buffer, sizeof buffer)));
  report("get_current_dir_name", in_sysfs(function<char*()>("get_current_dir_name")()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  file = argv[1];
  directory = argv[2];
  link_path = argv[3];
  probe_open();
  probe_directories();
  probe_status();
  probe_attributes();
  probe_answers();
}
