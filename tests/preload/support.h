#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace flexins::preload_test {

/// A folder of its own in /tmp, gone at the end.
class TemporaryDir {
 public:
  TemporaryDir();
  ~TemporaryDir();
  TemporaryDir(const TemporaryDir&) = delete;
  TemporaryDir& operator=(const TemporaryDir&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct Outcome {
  int status = -1;     ///< exit status; 128 + signal
  std::string output;  ///< standard output and error
};

/// Runs a program to its end. `environment` is added to the test's own, less what an outer
/// `flexins run` has set.
Outcome run(const std::vector<std::string>& arguments,
            const std::map<std::string, std::string>& environment = {});

/// Environment that shows `tree` through the preload library.
std::map<std::string, std::string> preloaded(const std::filesystem::path& tree);

std::string helper(const std::string& name);
std::string read_text(const std::filesystem::path& file);
std::vector<std::string> lines(const std::string& text);

}  // namespace flexins::preload_test
