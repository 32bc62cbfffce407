#include "daemon/log.h"

#include <cerrno>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace flexins::daemon {

base::Result<void> start_log(const Config& config, const std::string& engine_dir) {
  const std::string file = config.log_file == "auto" ? engine_dir + "/log" : config.log_file;
  try {
    spdlog::drop("flexinsd");
    spdlog::set_default_logger(file.empty() ? spdlog::stderr_color_mt("flexinsd")
                                            : spdlog::basic_logger_mt("flexinsd", file));
  } catch (const spdlog::spdlog_ex& error) {
    return base::Error{EIO, error.what()};
  }
  spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
  spdlog::set_level(spdlog::level::from_str(config.log_level));
  spdlog::flush_on(spdlog::level::debug);
  return {};
}

}  // namespace flexins::daemon
