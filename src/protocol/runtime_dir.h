#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// Where engines live on the file system: `<runtime directory>/<engine>/session.sock` and its
/// neighbours. One place for the daemon, the command line, the provider and the preload library.
/// The environment is ignored in a setuid program.

namespace flexins::protocol {

inline constexpr std::string_view kDefaultEngineName = "default";

/// Runtime directories in the order in which engines are looked for: $FLEXINS_RUNTIME_DIR,
/// $XDG_RUNTIME_DIR/flexins, /run/flexins, /tmp/flexins-UID. Unset ones are left out; that one is
/// listed does not mean that it exists.
[[nodiscard]] std::vector<std::string> runtime_dir_candidates();

/// May sockets below `path` be believed? The directory must be owned by this user or root, and
/// nobody else may write to it. Errors: ENOENT, ENOTDIR, EACCES with the reason.
base::Result<void> check_runtime_dir(const std::string& path);

/// The runtime directory in which this user starts engines; created (0700; /run/flexins 0755) if it
/// is missing: $FLEXINS_RUNTIME_DIR, else /run/flexins for root, else $XDG_RUNTIME_DIR/flexins,
/// else /tmp/flexins-UID. Errors: what mkdir or check_runtime_dir say.
base::Result<std::string> prepare_runtime_dir();

/// $FLEXINS_ENGINE, or "default".
[[nodiscard]] std::string engine_name();

/// Is `name` fit for a directory entry: 1 to 32 of [A-Za-z0-9_.-], not starting with a dot?
[[nodiscard]] bool valid_engine_name(std::string_view name);

/// Directories of engines called `name` that have a session socket, best first. The engine behind
/// it may be dead: whoever connects goes on to the next one at ECONNREFUSED.
[[nodiscard]] std::vector<std::string> engine_dirs(std::string_view name);

/// The first of engine_dirs(). Errors: EINVAL for a bad name, ENOENT with a hint what to start.
base::Result<std::string> find_engine_dir(std::string_view name);

/// The directory of engine `name` in `runtime_dir`.
[[nodiscard]] std::string engine_dir(const std::string& runtime_dir, std::string_view name);

[[nodiscard]] std::string session_socket_path(const std::string& engine_dir);
[[nodiscard]] std::string admin_socket_path(const std::string& engine_dir);
/// Where channels of rdma_cm connect (messages_cm.h).
[[nodiscard]] std::string cm_socket_path(const std::string& engine_dir);
/// The last component of the former, by which a descriptor is known for a channel.
inline constexpr std::string_view kCmSocketName = "cm.sock";
/// Holds the engine's process id and its lock.
[[nodiscard]] std::string lock_file_path(const std::string& engine_dir);
/// Root of the generated tree that stands for /sys (SYSFS_PATH).
[[nodiscard]] std::string sysfs_tree_path(const std::string& engine_dir);

}  // namespace flexins::protocol
