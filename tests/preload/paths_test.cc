// What programs see through the preload library.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>

#include "protocol/sysfs_tree.h"
#include "support.h"

namespace flexins::preload_test {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class PathsTest : public testing::Test {
 protected:
  PathsTest() : root_(dir_.path() / "sysfs") {
    protocol::SysfsDevice device;
    device.node_guid = 0x0200c0fffe00000a;
    device.port.active = 1;
    device.port.gid_count = 1;
    device.port.gids[0].gid[15] = 1;
    std::strcpy(device.port.gids[0].interface, "lo");
    EXPECT_TRUE(protocol::write_sysfs_tree(root_, device).ok());
  }
  /// What a shell prints under the preload library.
  std::string shell(const std::string& command) {
    Outcome outcome = run({"/bin/bash", "-c", command}, preloaded(root_));
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    return outcome.output;
  }
  std::string python(const std::string& program) {
    Outcome outcome = run({"/usr/bin/python3", "-c", program}, preloaded(root_));
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    return outcome.output;
  }

  TemporaryDir dir_;
  fs::path root_;
};

TEST_F(PathsTest, StockLibibverbsListsTheDevice) {
  auto environment = preloaded(root_);
  const std::string provider = FLEXINS_FAKE_PROVIDER;
  environment["RDMAV_DRIVERS"] = provider.substr(0, provider.rfind("-rdmav34.so"));
  const Outcome outcome = run({"ibv_devices"}, environment);
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.output, HasSubstr("flexins0"));
  EXPECT_THAT(outcome.output, HasSubstr("0200c0fffe00000a"));
}

TEST_F(PathsTest, EveryWrappedFunctionReachesTheTree) {
  const std::string device = "/sys/class/infiniband/flexins0";
  const std::vector<std::string> probe{helper("path_probe"), device + "/node_guid", device, device};
  const Outcome with = run(probe, preloaded(root_));
  EXPECT_EQ(with.status, 0);
  std::set<std::string> probed;
  for (const std::string& line : lines(with.output)) {
    EXPECT_THAT(line, testing::EndsWith(" ok"));
    probed.insert(line.substr(0, line.find(' ')));
  }
  const std::set<std::string> descriptors{"fstat", "fstat64",    "__fxstat", "__fxstat64", "socket",
                                          "read",  "__read_chk", "write",    "close"};
  for (const std::string name : {
#define FLEXINS_FUNCTION(name) #name,
#include "preload/functions.inc"
#undef FLEXINS_FUNCTION
       }) {
    EXPECT_TRUE(probed.count(name) + descriptors.count(name) == 1) << name;
  }
  // Without a tree nothing is there: the probe can tell.
  const Outcome without = run(probe, {{"LD_PRELOAD", FLEXINS_PRELOAD_LIBRARY}});
  EXPECT_THAT(without.output, Not(HasSubstr(" ok")));
}

TEST_F(PathsTest, ShellSeesADeviceLikeAnyOther) {
  EXPECT_EQ(shell("cat /sys/class/infiniband/flexins0/ports/1/state"), "4: ACTIVE\n");
  EXPECT_EQ(shell("ls /sys/class/infiniband"), "flexins0\n");
  EXPECT_EQ(shell("echo /sys/class/infiniband/f*"), "/sys/class/infiniband/flexins0\n");
  EXPECT_EQ(shell("readlink /sys/class/infiniband/flexins0"),
            "../../devices/platform/flexins.0/infiniband/flexins0\n");
  EXPECT_EQ(shell("realpath /sys/class/infiniband/flexins0"),
            "/sys/devices/platform/flexins.0/infiniband/flexins0\n");
  EXPECT_EQ(shell("cat /sys/devices/platform/flexins.0/net/lo/mtu"),
            read_text("/sys/class/net/lo/mtu"));
  EXPECT_THAT(shell("ls -l /sys/class/infiniband/ /dev/infiniband"), Not(HasSubstr("No such")));
  EXPECT_EQ(shell("find /sys/class/infiniband/ -name 'flex*'"), "/sys/class/infiniband/flexins0\n");
}

TEST_F(PathsTest, ShellMovesInsideTheTree) {
  EXPECT_EQ(shell("cd /sys/class/infiniband/flexins0 && pwd && cat node_type && /bin/pwd && "
                  "cd ../../infiniband_verbs && /bin/pwd && ls"),
            "/sys/class/infiniband/flexins0\n1: CA\n"
            "/sys/devices/platform/flexins.0/infiniband/flexins0\n"
            "/sys/class/infiniband_verbs\nabi_version\nuverbs9000\n");
}

TEST_F(PathsTest, PathsNeedNotBeInPlainForm) {
  EXPECT_EQ(shell("cat //sys//class/./infiniband///flexins0/./node_type"), "1: CA\n");
  EXPECT_EQ(shell("ls /sys/class/infiniband/./"), "flexins0\n");
  EXPECT_EQ(shell("! ls -d /sys/class/infiniband0 /sys/class/infinibandx /sys/class/infiniban "
                  "/sys/class/infiniband/none 2>/dev/null"),
            "");
}

TEST_F(PathsTest, PythonSeesADeviceLikeAnyOther) {
  EXPECT_EQ(python("import os, glob; d = '/sys/class/infiniband'\n"
                   "print(os.listdir(d), glob.glob(d + '/*/ports/*/pkeys/*'))\n"
                   "print(os.path.realpath(d + '/flexins0/device'), os.path.exists(d + '/x'))\n"
                   "print([e.is_symlink() for e in os.scandir(d)])\n"
                   "fd = os.open(d, os.O_RDONLY)\n"
                   "print(os.open('flexins0/node_guid', os.O_RDONLY, dir_fd=fd) > 0)"),
            "['flexins0'] ['/sys/class/infiniband/flexins0/ports/1/pkeys/0']\n"
            "/sys/devices/platform/flexins.0 False\n[True]\nTrue\n");
}

TEST_F(PathsTest, CharacterDeviceHasItsStandIn) {
  EXPECT_EQ(shell("stat -c '%F %t:%T' /dev/infiniband/uverbs9000"), "character special file 1:3\n");
  EXPECT_EQ(shell("stat -L -c '%F' /dev/infiniband/uverbs9000"), "character special file\n");
  EXPECT_EQ(shell("stat -c '%F' /dev/infiniband/uverbs0"), "character special file\n");
  EXPECT_EQ(shell("cat /dev/infiniband/uverbs9000 && realpath /dev/infiniband/uverbs9000"),
            "/dev/infiniband/uverbs9000\n");
  EXPECT_EQ(shell("ls /dev/infiniband"), "rdma_cm\nuverbs0\nuverbs9000\n");
  EXPECT_EQ(shell("stat -c '%F' /dev/infiniband/rdma_cm"), "character special file\n");
  EXPECT_EQ(shell("! ls /dev/infiniband/umad0 2>/dev/null"), "");
  EXPECT_EQ(python("import os; p = '/dev/infiniband/uverbs9000'\n"
                   "fd = os.open(p, os.O_RDWR); s = os.fstat(fd)\n"
                   "print(os.path.realpath(p), s.st_rdev == os.stat(p).st_rdev)"),
            "/dev/infiniband/uverbs9000 True\n");
}

TEST_F(PathsTest, ChildrenSeeTheDeviceToo) {
  EXPECT_EQ(python("import subprocess\n"
                   "subprocess.run(['cat', '/sys/class/infiniband/flexins0/node_type'])"),
            "1: CA\n");
}

TEST_F(PathsTest, KernelDevicesAreListedAndReachedBesideOurs) {
  const fs::path real = dir_.path() / "sys/class/infiniband/mlx5_0";
  fs::create_directories(real);
  std::ofstream(real / "node_type") << "1: CA\n";
  ASSERT_TRUE(protocol::refresh_kernel_devices(root_, dir_.path() / "sys", dir_.path() / "dev"));
  EXPECT_EQ(shell("ls /sys/class/infiniband"), "flexins0\nmlx5_0\n");
  EXPECT_EQ(python("import os; fd = os.open('/sys/class/infiniband', os.O_RDONLY)\n"
                   "print(os.read(os.open('mlx5_0/node_type', os.O_RDONLY, dir_fd=fd), 9))"),
            "b'1: CA\\n'\n");
  // By its full path it is the kernel's, which here has none.
  EXPECT_EQ(shell("! cat /sys/class/infiniband/mlx5_0/node_type 2>/dev/null"), "");
}

TEST_F(PathsTest, WithoutATreeThereIsNothing) {
  const std::vector<std::string> look{"ls", "-d", "/sys/class/infiniband/flexins0"};
  EXPECT_NE(run(look, {{"LD_PRELOAD", FLEXINS_PRELOAD_LIBRARY}}).status, 0);
  EXPECT_NE(run(look, preloaded(dir_.path() / "gone")).status, 0);
  EXPECT_NE(run(look, preloaded("relative")).status, 0);
  EXPECT_NE(run(look, preloaded("/x")).status, 0);
  EXPECT_NE(run(look, preloaded("/" + std::string(5000, 'x'))).status, 0);
}

TEST_F(PathsTest, LongPathsAreLeftAlone) {
  const std::string far = "/sys/class/infiniband/flexins0/" + std::string(5000, 'x');
  const Outcome outcome = run({"cat", far}, preloaded(root_));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("File name too long"));
}

}  // namespace
}  // namespace flexins::preload_test
