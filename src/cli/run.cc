#include "cli/run.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "cli/engine_start.h"
#include "cli/environment.h"
#include "cli/program_check.h"
#include "protocol/runtime_dir.h"
#include "protocol/sysfs_tree.h"

namespace flexins::cli {
namespace {

namespace fs = std::filesystem;

int fail(const base::Error& error, int status) {
  std::fprintf(stderr, "flexins: %s\n", error.message.c_str());
  return status;
}

/// The build tree and an installation look the same: bin beside lib.
base::Result<std::string> find_library_dir() {
  std::error_code error;
  const fs::path self = fs::canonical("/proc/self/exe", error);
  if (error) return base::Error{error.value(), "/proc/self/exe: " + error.message()};
  const fs::path lib = self.parent_path().parent_path() / "lib";
  for (const fs::path& folder : {lib, lib / "flexins"}) {
    if (fs::exists(folder / kPreloadLibrary, error) &&
        fs::exists(folder / kProviderLibrary, error)) {
      return folder.string();
    }
  }
  return base::Error{ENOENT, std::string(kPreloadLibrary) + " and " + kProviderLibrary +
                                 " are not in " + lib.string() +
                                 " nor in its folder flexins: the installation is incomplete"};
}

base::Result<std::string> find_or_start_engine(const std::string& name) {
  auto running = find_running_engine(name);
  if (!running) return running.error();
  if (running->has_value()) return *running.value();
  // What an outer `flexins run` set is for programs; the engine is no client of another one.
  ::unsetenv("LD_PRELOAD");
  ::unsetenv("RDMAV_DRIVERS");
  return start_engine(name);
}

base::Result<Environment> program_environment(Environment own, const std::string& library_dir,
                                              const std::string& engine_dir,
                                              const std::string& engine_name) {
  const std::string tree = protocol::sysfs_tree_path(engine_dir);
  if (::access(tree.c_str(), R_OK | X_OK) != 0) {
    return base::Error{errno, tree + ": " + std::strerror(errno) +
                                  "; without it programs cannot see the device (stop the engine "
                                  "with `flexins down` and try again)"};
  }
  // The tree of another user's engine is that one's to refresh; it is good enough as it is.
  [[maybe_unused]] const auto refreshed = protocol::refresh_kernel_devices(tree);
  EngineView view;
  view.library_dir = library_dir;
  view.runtime_dir = fs::path(engine_dir).parent_path();
  view.engine_name = engine_name;
  view.sysfs_root = tree;
  return with_engine(std::move(own), view);
}

/// Returns errno: why the program could not be executed.
int execute(const std::string& file, const std::vector<std::string>& arguments,
            const Environment& environment) {
  std::vector<std::string> variables;
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
  std::vector<char*> environment_pointers;
  for (std::string& variable : variables) environment_pointers.push_back(variable.data());
  environment_pointers.push_back(nullptr);
  std::vector<char*> argument_pointers;
  for (const std::string& argument : arguments) {
    argument_pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  argument_pointers.push_back(nullptr);
  ::execve(file.c_str(), argument_pointers.data(), environment_pointers.data());
  return errno;
}

}  // namespace

int run_command(const RunOptions& options) {
  if (options.arguments.empty()) {
    return fail({EINVAL, "run: which program? (flexins run -- PROGRAM ARGUMENTS)"},
                kExitOwnFailure);
  }
  const char* path = std::getenv("PATH");
  auto program = find_program(options.arguments.front(), path != nullptr ? path : "/usr/bin:/bin");
  if (!program) {
    return fail(program.error(), program.error().code == ENOENT ? kExitNotFound : kExitNotRunnable);
  }
  if (auto checked = check_program(*program); !checked) {
    return fail(checked.error(), kExitNotRunnable);
  }
  auto library_dir = find_library_dir();
  if (!library_dir) return fail(library_dir.error(), kExitOwnFailure);
  Environment own = current_environment();
  const std::string name =
      options.engine_name.empty() ? protocol::engine_name() : options.engine_name;
  auto engine_dir = find_or_start_engine(name);
  if (!engine_dir) return fail(engine_dir.error(), kExitOwnFailure);
  auto environment = program_environment(std::move(own), *library_dir, *engine_dir, name);
  if (!environment) return fail(environment.error(), kExitOwnFailure);
  const int problem = execute(*program, options.arguments, *environment);
  return fail({problem, *program + ": " + std::strerror(problem)}, kExitNotRunnable);
}

}  // namespace flexins::cli
