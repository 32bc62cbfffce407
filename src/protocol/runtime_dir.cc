#include "protocol/runtime_dir.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace flexins::protocol {
namespace {

constexpr const char* kSystemDir = "/run/flexins";

/// Value of an environment variable that holds an absolute path, else empty.
std::string path_from_environment(const char* variable) {
  const char* value = ::secure_getenv(variable);
  return value != nullptr && value[0] == '/' ? value : "";
}

std::string xdg_dir() {
  std::string dir = path_from_environment("XDG_RUNTIME_DIR");
  return dir.empty() ? dir : dir + "/flexins";
}

std::string temporary_dir() { return "/tmp/flexins-" + std::to_string(::geteuid()); }

base::Error failed(const std::string& path, const char* why, int code) {
  return base::Error{code, path + ": " + why};
}

}  // namespace

std::vector<std::string> runtime_dir_candidates() {
  std::vector<std::string> candidates;
  for (const std::string& dir : {path_from_environment("FLEXINS_RUNTIME_DIR"), xdg_dir(),
                                 std::string(kSystemDir), temporary_dir()}) {
    const bool known = std::find(candidates.begin(), candidates.end(), dir) != candidates.end();
    if (!dir.empty() && !known) candidates.push_back(dir);
  }
  return candidates;
}

base::Result<void> check_runtime_dir(const std::string& path) {
  struct stat info {};
  // lstat: in /tmp, anybody may have planted a link.
  if (::lstat(path.c_str(), &info) != 0) return failed(path, std::strerror(errno), errno);
  if (!S_ISDIR(info.st_mode)) return failed(path, "not a directory", ENOTDIR);
  if (info.st_uid != ::geteuid() && info.st_uid != 0) {
    return failed(path, "belongs to another user", EACCES);
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return failed(path, "others may write to it (want mode 0700 or 0755)", EACCES);
  }
  return {};
}

base::Result<std::string> prepare_runtime_dir() {
  std::string dir = path_from_environment("FLEXINS_RUNTIME_DIR");
  mode_t mode = 0700;
  if (dir.empty() && ::geteuid() == 0) {
    dir = kSystemDir;
    mode = 0755;
  }
  if (dir.empty()) dir = xdg_dir();
  if (dir.empty()) dir = temporary_dir();
  if (::mkdir(dir.c_str(), mode) != 0 && errno != EEXIST) {
    return failed(dir, std::strerror(errno), errno);
  }
  if (auto checked = check_runtime_dir(dir); !checked) return checked.error();
  return dir;
}

std::string engine_name() {
  const char* name = ::secure_getenv("FLEXINS_ENGINE");
  return name != nullptr && name[0] != '\0' ? name : std::string(kDefaultEngineName);
}

bool valid_engine_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  };
  return !name.empty() && name.size() <= 32 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), fits);
}

std::vector<std::string> engine_dirs(std::string_view name) {
  std::vector<std::string> found;
  if (!valid_engine_name(name)) return found;
  for (const std::string& candidate : runtime_dir_candidates()) {
    if (!check_runtime_dir(candidate)) continue;
    std::string dir = engine_dir(candidate, name);
    struct stat info {};
    const bool there = ::stat(session_socket_path(dir).c_str(), &info) == 0;
    if (there && S_ISSOCK(info.st_mode)) found.push_back(std::move(dir));
  }
  return found;
}

base::Result<std::string> find_engine_dir(std::string_view name) {
  const std::string quoted = "'" + std::string(name) + "'";
  if (!valid_engine_name(name)) return base::Error{EINVAL, "bad engine name " + quoted};
  std::vector<std::string> found = engine_dirs(name);
  if (!found.empty()) return std::move(found.front());
  return base::Error{ENOENT, "no engine running under the name " + quoted +
                                 ": start one with `flexins up` or use `flexins run`"};
}

std::string engine_dir(const std::string& runtime_dir, std::string_view name) {
  return runtime_dir + "/" + std::string(name);
}
std::string session_socket_path(const std::string& engine_dir) {
  return engine_dir + "/session.sock";
}
std::string admin_socket_path(const std::string& engine_dir) { return engine_dir + "/admin.sock"; }
std::string cm_socket_path(const std::string& engine_dir) {
  return engine_dir + "/" + std::string(kCmSocketName);
}
std::string lock_file_path(const std::string& engine_dir) { return engine_dir + "/engine.pid"; }
std::string sysfs_tree_path(const std::string& engine_dir) { return engine_dir + "/sysfs"; }

}  // namespace flexins::protocol
