// `flexins run` with an engine that only looks like one.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "support.h"

namespace flexins::preload_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

/// An installation in a folder of its own, whose engines live there too.
class RunTest : public testing::Test {
 protected:
  RunTest() : bin_(dir_.path() / "bin"), lib_(dir_.path() / "lib"), runtime_(dir_.path() / "run") {
    fs::create_directories(bin_);
    fs::create_directories(lib_);
    fs::copy_file(helper("flexins_run"), bin_ / "flexins");
    fs::create_symlink(helper("fake_engine"), bin_ / "flexinsd");
    fs::create_symlink(FLEXINS_PRELOAD_LIBRARY, lib_ / "libflexins-preload.so");
    fs::create_symlink(FLEXINS_FAKE_PROVIDER, lib_ / "libflexins-rdmav34.so");
  }
  ~RunTest() override {
    for (const char* engine : {"default", "left"}) {
      const pid_t pid = std::atoi(read_text(runtime_ / engine / "engine.pid").c_str());
      if (pid > 1) ::kill(pid, SIGTERM);
    }
  }
  Outcome flexins_run(const std::vector<std::string>& arguments,
                      const std::map<std::string, std::string>& more = {}) {
    std::vector<std::string> command{bin_ / "flexins"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    std::map<std::string, std::string> environment{{"FLEXINS_RUNTIME_DIR", runtime_}};
    environment.insert(more.begin(), more.end());
    return run(command, environment);
  }
  [[nodiscard]] std::vector<std::string> starts(const std::string& engine = "default") const {
    return lines(read_text(runtime_ / engine / "started"));
  }

  TemporaryDir dir_;
  fs::path bin_;
  fs::path lib_;
  fs::path runtime_;
};

TEST_F(RunTest, StartsAnEngineOnce) {
  Outcome first = flexins_run({"cat", "/sys/class/infiniband/flexins0/node_type"});
  EXPECT_EQ(first.output, "1: CA\n");
  EXPECT_EQ(first.status, 0);
  EXPECT_EQ(flexins_run({"sh", "-c", "exit 7"}).status, 7);
  ASSERT_EQ(starts().size(), 1U);
  EXPECT_EQ(starts()[0], "--engine default --runtime-dir " + runtime_.string() +
                             " --exit-when-idle 10 --log-file auto --ready-fd 3 preload=");
}

TEST_F(RunTest, StockProgramsListTheDevice) {
  EXPECT_THAT(flexins_run({"ibv_devices"}).output, HasSubstr("flexins0"));
}

TEST_F(RunTest, TheEngineIsNoChildOfTheProgram) {
  const Outcome outcome =
      flexins_run({"python3", "-c", "import os\ntry: os.wait()\nexcept OSError as e: print(e)"});
  EXPECT_THAT(outcome.output, HasSubstr("No child processes"));
}

TEST_F(RunTest, UsesTheEngineThatWasAskedFor) {
  const Outcome outcome = flexins_run({"sh", "-c", "echo $FLEXINS_ENGINE $FLEXINS_SYSFS"},
                                      {{"FLEXINS_ENGINE", "left"}});
  EXPECT_EQ(outcome.output, "left " + (runtime_ / "left/sysfs").string() + "\n");
  EXPECT_EQ(starts("left").size(), 1U);
  EXPECT_FALSE(fs::exists(runtime_ / "default"));
}

TEST_F(RunTest, TwoAtOnceShareOneEngine) {
  const std::string twice =
      "for i in 1 2 3; do '" + (bin_ / "flexins").string() + "' echo $i & done; wait";
  const Outcome outcome = run({"sh", "-c", twice}, {{"FLEXINS_RUNTIME_DIR", runtime_}});
  EXPECT_EQ(lines(outcome.output).size(), 3U) << outcome.output;
  EXPECT_EQ(starts().size(), 1U);
}

TEST_F(RunTest, ReplacesADeadEnginesSocket) {
  ASSERT_EQ(flexins_run({"true"}).status, 0);
  const pid_t pid = std::atoi(read_text(runtime_ / "default/engine.pid").c_str());
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  // Dead is enough: whoever inherited it may take its time to collect it.
  const std::string stat = "/proc/" + std::to_string(pid) + "/stat";
  while (fs::exists(stat) && read_text(stat).find(") Z") == std::string::npos) ::usleep(1000);
  EXPECT_EQ(flexins_run({"true"}).status, 0);
  EXPECT_EQ(starts().size(), 2U);
}

TEST_F(RunTest, ShowsWhyAnEngineCouldNotStart) {
  const Outcome outcome = flexins_run({"true"}, {{"FAKE_ENGINE_FAILS", "1"}});
  EXPECT_EQ(outcome.status, 125);
  EXPECT_THAT(outcome.output, HasSubstr("could not start"));
  EXPECT_THAT(outcome.output, HasSubstr("no address to serve"));
  EXPECT_THAT(outcome.output, HasSubstr((runtime_ / "default/log").string()));
}

TEST_F(RunTest, SaysThatTheEngineIsMissing) {
  fs::remove(bin_ / "flexinsd");
  const Outcome outcome = flexins_run({"true"});
  EXPECT_EQ(outcome.status, 125);
  EXPECT_THAT(outcome.output, HasSubstr("flexinsd is neither beside"));
}

TEST_F(RunTest, SaysThatTheInstallationIsIncomplete) {
  fs::remove(lib_ / "libflexins-rdmav34.so");
  const Outcome outcome = flexins_run({"true"});
  EXPECT_EQ(outcome.status, 125);
  EXPECT_THAT(outcome.output, HasSubstr("installation is incomplete"));
}

TEST_F(RunTest, RefusesStaticPrograms) {
  const Outcome outcome = flexins_run({helper("static_program")});
  EXPECT_EQ(outcome.status, 126);
  EXPECT_THAT(outcome.output, HasSubstr("statically linked"));
  EXPECT_THAT(starts(), testing::IsEmpty());
}

TEST_F(RunTest, RefusesScriptsOfAStaticInterpreter) {
  const fs::path script = dir_.path() / "script";
  std::ofstream(script) << "#! " << helper("static_program") << " -x\n";
  fs::permissions(script, fs::perms::owner_all);
  EXPECT_THAT(flexins_run({script}).output, HasSubstr("statically linked"));
}

TEST_F(RunTest, RunsScripts) {
  const fs::path script = dir_.path() / "script";
  std::ofstream(script) << "#!/bin/sh\ncat /sys/class/infiniband/flexins0/node_type\n";
  fs::permissions(script, fs::perms::owner_all);
  EXPECT_EQ(flexins_run({script}).output, "1: CA\n");
}

TEST_F(RunTest, RefusesSetuidPrograms) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs to give a file to another user";
  const fs::path program = dir_.path() / "setuid";
  fs::copy_file("/bin/true", program);
  ASSERT_EQ(::chown(program.c_str(), 65534, 65534), 0);
  ASSERT_EQ(::chmod(program.c_str(), 04755), 0);
  const Outcome outcome = flexins_run({program});
  EXPECT_EQ(outcome.status, 126);
  EXPECT_THAT(outcome.output, HasSubstr("setuid"));
}

TEST_F(RunTest, HasTheUsualStatusForWhatCannotRun) {
  EXPECT_EQ(flexins_run({"flexins-no-such-program"}).status, 127);
  EXPECT_EQ(flexins_run({"/nonexistent/program"}).status, 127);
  EXPECT_EQ(flexins_run({"/etc"}).status, 126);
  EXPECT_EQ(flexins_run({}).status, 125);
}

TEST_F(RunTest, RefusesABadEngineName) {
  const Outcome outcome = flexins_run({"true"}, {{"FLEXINS_ENGINE", "../x"}});
  EXPECT_EQ(outcome.status, 125);
  EXPECT_THAT(outcome.output, HasSubstr("no engine name"));
}

/// A kernel with an adapter of its own, in a mount namespace.
TEST_F(RunTest, KernelDevicesStayVisible) {
  const std::string script =
      "mount -t tmpfs none /sys/class && mkdir -p /sys/class/infiniband/mlx5_0 "
      "/sys/class/infiniband_verbs/uverbs0 /sys/class/net && "
      "echo real > /sys/class/infiniband/mlx5_0/node_desc && echo 6 > "
      "/sys/class/infiniband_verbs/abi_version || exit 77\n" +
      ("'" + (bin_ / "flexins").string()) +
      "' sh -c 'ls /sys/class/infiniband /sys/class/infiniband_verbs; "
      "cat /sys/class/infiniband/mlx5_0/node_desc; readlink /sys/class/infiniband/flexins0; "
      "realpath /sys/class/infiniband/mlx5_0'";
  const Outcome outcome =
      run({"unshare", "-m", "sh", "-c", script}, {{"FLEXINS_RUNTIME_DIR", runtime_}});
  if (outcome.status == 77 || outcome.output.find("unshare") == 0) {
    GTEST_SKIP() << "no mount namespaces here: " << outcome.output;
  }
  EXPECT_EQ(outcome.output,
            "/sys/class/infiniband:\nflexins0\nmlx5_0\n\n"
            "/sys/class/infiniband_verbs:\nabi_version\nuverbs0\nuverbs9000\n"
            "real\n../../devices/platform/flexins.0/infiniband/flexins0\n"
            "/sys/class/infiniband/mlx5_0\n");
}

}  // namespace
}  // namespace flexins::preload_test
