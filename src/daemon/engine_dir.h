#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace flexins::daemon {

/// The directory of one engine, held by a file lock for as long as this lives: the lock goes with
/// the process, however it ends, so what a dead engine left behind is recognised and replaced.
class EngineDir {
 public:
  /// Makes and locks `<runtime directory>/<name>`. Errors: EADDRINUSE names the engine that runs
  /// there, EACCES and others name the directory and the way out.
  static base::Result<EngineDir> claim(const std::string& runtime_dir, const std::string& name);

  EngineDir(EngineDir&&) = default;
  EngineDir& operator=(EngineDir&&) = delete;
  /// Removes sockets, pid file and, if it is empty then, the directory; the lock ends last.
  ~EngineDir();

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  EngineDir(std::string path, base::UniqueFd lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}
  void remove_sockets() const;

  std::string path_;
  base::UniqueFd lock_;
};

/// A listening unix socket at `path`. `type`: SOCK_SEQPACKET or SOCK_STREAM. `mode`: file mode.
/// Errors: ENAMETOOLONG with the fix, others as bind says.
base::Result<base::UniqueFd> listen_at(const std::string& path, int type, mode_t mode);

}  // namespace flexins::daemon
