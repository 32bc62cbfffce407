#pragma once

#include <map>
#include <string>

#include "base/result.h"

/// The environment that makes a stock RDMA program see a FlexiNS engine's device.

namespace flexins::cli {

using Environment = std::map<std::string, std::string>;

inline constexpr const char* kPreloadLibrary = "libflexins-preload.so";
/// libibverbs appends "-rdmav34.so" to what RDMAV_DRIVERS names.
inline constexpr const char* kProviderDriver = "libflexins";
inline constexpr const char* kProviderLibrary = "libflexins-rdmav34.so";

/// The engine that a program is to use, and the libraries that show it.
struct EngineView {
  std::string library_dir;
  std::string runtime_dir;
  std::string engine_name;
  std::string sysfs_root;
};

[[nodiscard]] Environment current_environment();

/// `environment` with
///  - LD_PRELOAD: our library before what was there (in a sanitized build, the sanitizer's run-time
///    before both, as it demands);
///  - RDMAV_DRIVERS: our provider before what was there;
///  - FLEXINS_RUNTIME_DIR, FLEXINS_ENGINE, FLEXINS_SYSFS: those of `view`;
///  - no SYSFS_PATH, which would lead libibverbs away from our device.
/// Entries of an outer `flexins run` are replaced. Errors: EINVAL where `library_dir` has a
/// character that separates entries.
base::Result<Environment> with_engine(Environment environment, const EngineView& view);

}  // namespace flexins::cli
