#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace flexins::preload_test {

namespace fs = std::filesystem;

TemporaryDir::TemporaryDir() {
  char name[] = "/tmp/flexins-preload-XXXXXX";
  if (::mkdtemp(name) == nullptr) std::abort();
  path_ = name;
}

TemporaryDir::~TemporaryDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

namespace {

[[noreturn]] void execute(const std::vector<std::string>& arguments,
                          const std::map<std::string, std::string>& environment) {
  for (const char* name : {"LD_PRELOAD", "RDMAV_DRIVERS", "FLEXINS_SYSFS", "FLEXINS_RUNTIME_DIR",
                           "FLEXINS_ENGINE", "XDG_RUNTIME_DIR"}) {
    ::unsetenv(name);
  }
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  ::execvp(pointers[0], pointers.data());
  std::perror(pointers[0]);
  std::_Exit(127);
}

}  // namespace

Outcome run(const std::vector<std::string>& arguments,
            const std::map<std::string, std::string>& environment) {
  int ends[2];
  if (::pipe(ends) != 0) return {};
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    execute(arguments, environment);
  }
  ::close(ends[1]);
  Outcome outcome;
  char buffer[4096];
  for (ssize_t got; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
    outcome.output.append(buffer, static_cast<size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

std::map<std::string, std::string> preloaded(const fs::path& tree) {
  return {{"LD_PRELOAD", FLEXINS_PRELOAD_LIBRARY}, {"FLEXINS_SYSFS", tree.string()}};
}

std::string helper(const std::string& name) { return std::string(FLEXINS_HELPERS) + "/" + name; }

std::string read_text(const fs::path& file) {
  std::ifstream stream(file);
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> found;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) found.push_back(line);
  return found;
}

}  // namespace flexins::preload_test
