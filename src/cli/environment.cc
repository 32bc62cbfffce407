#include "cli/environment.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <vector>

namespace flexins::cli {
namespace {

/// The shared run-time of the sanitizer that this build has, or nothing. It refuses to run unless
/// it is the first library of a process, and our libraries of such a build need it.
std::string sanitizer_runtime() {
  for (const char* symbol : {"__asan_init", "__tsan_init"}) {
    void* const address = ::dlsym(RTLD_DEFAULT, symbol);
    Dl_info info{};
    if (address == nullptr || ::dladdr(address, &info) == 0) continue;
    std::string file = info.dli_fname;
    if (file.find(".so") != std::string::npos) return file;
  }
  return {};
}

std::vector<std::string> split(std::string_view list, std::string_view separators) {
  std::vector<std::string> entries;
  while (!list.empty()) {
    const size_t end = std::min(list.find_first_of(separators), list.size());
    if (end != 0) entries.emplace_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return entries;
}

/// `first`, then the old value's entries, less those called `own_name` in any folder.
std::string prepend(const std::vector<std::string>& first, const std::string& old,
                    std::string_view separators, std::string_view own_name) {
  std::string joined;
  const auto add = [&joined](const std::string& entry) {
    joined += (joined.empty() ? "" : ":") + entry;
  };
  for (const std::string& entry : first) add(entry);
  for (const std::string& entry : split(old, separators)) {
    const std::string base_name = entry.substr(entry.find_last_of('/') + 1);
    bool repeated = base_name == own_name;
    for (const std::string& known : first) repeated = repeated || known == entry;
    if (!repeated) add(entry);
  }
  return joined;
}

}  // namespace

Environment current_environment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

base::Result<Environment> with_engine(Environment environment, const EngineView& view) {
  if (view.library_dir.find_first_of(" :;\t\n") != std::string::npos) {
    return base::Error{EINVAL, view.library_dir +
                                   ": libraries cannot be preloaded from a folder with a blank, "
                                   "colon or semicolon in its path; install FlexiNS elsewhere"};
  }
  std::vector<std::string> preloads{view.library_dir + "/" + kPreloadLibrary};
  if (std::string runtime = sanitizer_runtime(); !runtime.empty()) {
    preloads.insert(preloads.begin(), std::move(runtime));
    // What the program itself leaks is not what such a build is to find.
    environment.emplace("ASAN_OPTIONS", "detect_leaks=0");
  }
  environment["LD_PRELOAD"] = prepend(preloads, environment["LD_PRELOAD"], ": ", kPreloadLibrary);
  environment["RDMAV_DRIVERS"] = prepend({view.library_dir + "/" + kProviderDriver},
                                         environment["RDMAV_DRIVERS"], ":;", kProviderDriver);
  environment["FLEXINS_RUNTIME_DIR"] = view.runtime_dir;
  environment["FLEXINS_ENGINE"] = view.engine_name;
  environment["FLEXINS_SYSFS"] = view.sysfs_root;
  environment.erase("SYSFS_PATH");
  return environment;
}

}  // namespace flexins::cli
