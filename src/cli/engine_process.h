#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace flexins::cli {

/// Path of flexinsd: beside this program, else from PATH. Errors: ENOENT.
base::Result<std::string> find_flexinsd();

/// Starts flexinsd with `arguments` in the background, detached from this process and its terminal
/// (it is no child of ours: a program that waits for its children must not meet it), and returns
/// when clients can connect: the engine's directory. Errors: what the engine said, ETIMEDOUT.
base::Result<std::string> start_detached(const std::vector<std::string>& arguments);

/// Becomes flexinsd. Returns only if that fails.
base::Error become_engine(const std::vector<std::string>& arguments);

}  // namespace flexins::cli
