#include "daemon/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/options.h"

namespace flexins::daemon {
namespace {

using testing::HasSubstr;

std::string error_of(const std::string& text) {
  auto applied = apply_toml({}, text, "f.toml");
  return applied ? "accepted" : applied.error().message;
}

TEST(Config, ReadsEveryKindOfValue) {
  auto config = apply_toml({}, R"(
[engine]
name = "left"
addresses = ["127.0.0.2", "::1"]
exit_when_idle_s = 10
[worker]
spin = true
cpu = 1
[network]
peer_window_bytes = 262_144
[limits]
tenant_qps = 5
)",
                           "f.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->engine_name, "left");
  EXPECT_EQ(config->addresses, (std::vector<std::string>{"127.0.0.2", "::1"}));
  EXPECT_EQ(config->exit_when_idle_s, 10);
  EXPECT_TRUE(config->spin);
  EXPECT_EQ(config->peer_window_bytes, 262'144u);
  EXPECT_EQ(config->limits.qps_max, 5u);
}

TEST(Config, ErrorsNameKeyAndLine) {
  EXPECT_THAT(error_of("[engine]\n\nnmae = \"x\""), HasSubstr("f.toml, line 3: 'nmae'"));
  EXPECT_THAT(error_of("[engin]"), HasSubstr("no table [engin]"));
  EXPECT_THAT(error_of("name = \"x\""), HasSubstr("line 1: 'name'"));
  EXPECT_THAT(error_of("[worker]\ncpu = \"one\""), HasSubstr("worker.cpu must be a whole number"));
  EXPECT_THAT(error_of("[worker]\ncount = 0"), HasSubstr("from 1"));
  EXPECT_THAT(error_of("[worker]\nidle_yield_us = 5000000000"), HasSubstr("to 4294967295"));
  EXPECT_THAT(error_of("[engine]\naddresses = [1]"), HasSubstr("list of strings"));
  EXPECT_THAT(error_of("[engine"), HasSubstr("f.toml, line 1"));
}

TEST(Config, ValuesThatDoNotFitTogetherAreRefused) {
  Config config;
  EXPECT_TRUE(check_config(config));
  config.workers = 2;
  EXPECT_THAT(check_config(config).error().message, HasSubstr("one worker"));
  config = {};
  config.engine_name = "../x";
  EXPECT_FALSE(check_config(config));
  config = {};
  config.log_level = "loud";
  EXPECT_THAT(check_config(config).error().message, HasSubstr("debug, info"));
}

TEST(Options, TheCommandLineWins) {
  const std::string file = testing::TempDir() + "/options-test.toml";
  FILE* out = std::fopen(file.c_str(), "w");
  std::fputs("[engine]\nname = \"filed\"\n[log]\nlevel = \"debug\"\n", out);
  std::fclose(out);
  const char* argv[] = {"flexinsd", "-c", file.c_str(), "--engine", "typed", "-a", "127.0.0.3"};
  auto options = read_options(7, argv);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->config.engine_name, "typed");
  EXPECT_EQ(options->config.log_level, "debug");
  EXPECT_EQ(options->config.addresses, std::vector<std::string>{"127.0.0.3"});
  EXPECT_FALSE(options->exit_status);
}

TEST(Options, AMissingFileIsNamed) {
  const char* argv[] = {"flexinsd", "-c", "/nonexistent/f.toml"};
  EXPECT_THAT(read_options(3, argv).error().message,
              HasSubstr("/nonexistent/f.toml: No such file"));
}

}  // namespace
}  // namespace flexins::daemon
