#pragma once

#include <string>

#include "base/result.h"

namespace flexins::cli {

/// The file that `program` names: itself if it has a slash, else the first executable one in `path`
/// (as $PATH). Errors: ENOENT, EACCES as execvp has them.
base::Result<std::string> find_program(const std::string& program, const std::string& path);

/// Can a preloaded library show our device to `file`? Errors: ENOEXEC with the reason for
/// statically linked and 32-bit programs, EPERM for setuid, setgid and file-capability programs,
/// whose loader ignores LD_PRELOAD. Scripts are as good as their interpreter.
base::Result<void> check_program(const std::string& file);

}  // namespace flexins::cli
