#include "protocol/sysfs_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "support.h"

namespace flexins::preload_test {
namespace {

namespace fs = std::filesystem;
using protocol::refresh_kernel_devices;
using protocol::SysfsDevice;
using protocol::write_sysfs_tree;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

SysfsDevice two_gid_device() {
  SysfsDevice device;
  device.node_guid = 0x0200c0fffe00000a;
  device.port.active = 1;
  device.port.gid_count = 2;
  device.port.gids[0].gid = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
  device.port.gids[1].gid = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  std::strcpy(device.port.gids[0].interface, "lo");
  // All of the field: no room for a terminator.
  std::memset(device.port.gids[1].interface, 'x', sizeof device.port.gids[1].interface);
  return device;
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

class SysfsTreeTest : public testing::Test {
 protected:
  SysfsTreeTest() : root_(dir_.path() / "sysfs") {}

  void write(const SysfsDevice& device) {
    auto written = write_sysfs_tree(root_, device);
    ASSERT_TRUE(written.ok()) << written.error().message;
  }
  [[nodiscard]] std::string port(const std::string& name) const {
    return read_text(root_ / "class/infiniband/flexins0/ports/1" / name);
  }
  /// Makes `sys` and `dev` look as with one real adapter.
  void make_kernel(const std::string& device, const std::string& uverbs) const {
    const fs::path real = dir_.path() / "sys/devices/pci0000:00/0000:00:01.0";
    fs::create_directories(real / "infiniband" / device);
    fs::create_directories(real / "infiniband_verbs" / uverbs);
    fs::create_directories(dir_.path() / "sys/class/infiniband");
    fs::create_directories(dir_.path() / "sys/class/infiniband_verbs");
    fs::create_directories(dir_.path() / "dev/infiniband");
    std::ofstream(real / "infiniband" / device / "node_type") << "1: CA\n";
    std::ofstream(dir_.path() / "sys/class/infiniband_verbs/abi_version") << "6\n";
    std::ofstream(dir_.path() / "dev/infiniband" / uverbs) << "";
    std::error_code ignored;
    fs::create_symlink(real / "infiniband" / device, dir_.path() / "sys/class/infiniband" / device,
                       ignored);
    fs::create_symlink(real / "infiniband_verbs" / uverbs,
                       dir_.path() / "sys/class/infiniband_verbs" / uverbs, ignored);
  }
  void refresh() {
    auto done = refresh_kernel_devices(root_, dir_.path() / "sys", dir_.path() / "dev");
    ASSERT_TRUE(done.ok()) << done.error().message;
  }

  TemporaryDir dir_;
  fs::path root_;
};

TEST_F(SysfsTreeTest, HasTheFormOfSysfs) {
  write(two_gid_device());
  const fs::path device = root_ / "class/infiniband/flexins0";
  EXPECT_EQ(read_text(device / "node_type"), "1: CA\n");
  EXPECT_EQ(read_text(device / "node_guid"), "0200:c0ff:fe00:000a\n");
  EXPECT_EQ(fs::read_symlink(device), "../../devices/platform/flexins.0/infiniband/flexins0");
  EXPECT_TRUE(fs::equivalent(device / "device", root_ / "devices/platform/flexins.0"));
  EXPECT_TRUE(fs::equivalent(device / "subsystem", root_ / "class/infiniband"));
  EXPECT_EQ(fs::read_symlink(device / "device/net/lo"), "/sys/class/net/lo");
  EXPECT_EQ(read_text(device / "device/numa_node"), "-1\n");
}

TEST_F(SysfsTreeTest, HasTheCharacterDevice) {
  write(two_gid_device());
  EXPECT_EQ(read_text(root_ / "class/infiniband_verbs/abi_version"), "6\n");
  const fs::path uverbs = root_ / "class/infiniband_verbs/uverbs9000";
  EXPECT_EQ(read_text(uverbs / "ibdev"), "flexins0\n");
  EXPECT_EQ(read_text(uverbs / "dev"), "1:3\n");
  EXPECT_EQ(read_text(uverbs / "abi_version"), "1\n");
  EXPECT_TRUE(fs::equivalent(uverbs / "device", root_ / "devices/platform/flexins.0"));
  EXPECT_EQ(fs::read_symlink(root_ / "dev/infiniband/uverbs9000"), "/dev/null");
}

TEST_F(SysfsTreeTest, HasThePortAndItsGids) {
  write(two_gid_device());
  EXPECT_EQ(port("state"), "4: ACTIVE\n");
  EXPECT_EQ(port("phys_state"), "5: LinkUp\n");
  EXPECT_EQ(port("link_layer"), "Ethernet\n");
  EXPECT_EQ(port("pkeys/0"), "0xffff\n");
  EXPECT_EQ(port("gids/0"), "0000:0000:0000:0000:0000:ffff:c000:0201\n");
  EXPECT_EQ(port("gids/1"), "fe80:0000:0000:0000:0000:0000:0000:0001\n");
  EXPECT_EQ(port("gid_attrs/types/1"), "RoCE v2\n");
  EXPECT_EQ(port("gid_attrs/ndevs/0"), "lo\n");
  EXPECT_EQ(port("gid_attrs/ndevs/1"), "xxxxxxxxxxxxxxxx\n");
  EXPECT_EQ(port("gids/2"), "0000:0000:0000:0000:0000:0000:0000:0000\n");
  EXPECT_EQ(port("gid_attrs/ndevs/2"), "");
  EXPECT_EQ(names_in(root_ / "class/infiniband/flexins0/ports/1/gids").size(), protocol::kMaxGids);
}

TEST_F(SysfsTreeTest, ShowsADownPort) {
  SysfsDevice device = two_gid_device();
  device.port.active = 0;
  write(device);
  EXPECT_EQ(port("state"), "1: DOWN\n");
  EXPECT_EQ(port("phys_state"), "3: Disabled\n");
}

TEST_F(SysfsTreeTest, BelievesNoGidCountBeyondTheTable) {
  SysfsDevice device = two_gid_device();
  device.port.gid_count = 1000;
  write(device);
  EXPECT_EQ(names_in(root_ / "class/infiniband/flexins0/ports/1/gids").size(), protocol::kMaxGids);
}

TEST_F(SysfsTreeTest, ReplacesAnOlderTree) {
  SysfsDevice device = two_gid_device();
  write(device);
  device.port.gid_count = 1;
  write(device);
  EXPECT_EQ(port("gid_attrs/ndevs/1"), "");
  EXPECT_THAT(names_in(dir_.path()), UnorderedElementsAre("sysfs"));
}

TEST_F(SysfsTreeTest, NamesTheFileThatFails) {
  auto written = write_sysfs_tree(dir_.path() / "missing/sub/sysfs", two_gid_device());
  // Parents are made as needed, so take one that cannot be.
  std::ofstream(dir_.path() / "file") << "";
  written = write_sysfs_tree(dir_.path() / "file/sysfs", two_gid_device());
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, ENOTDIR);
  EXPECT_THAT(written.error().message, testing::HasSubstr("file/sysfs.new"));
}

TEST_F(SysfsTreeTest, ShowsKernelDevicesBesideOurs) {
  write(two_gid_device());
  make_kernel("mlx5_0", "uverbs0");
  refresh();
  EXPECT_THAT(names_in(root_ / "class/infiniband"), UnorderedElementsAre("flexins0", "mlx5_0"));
  EXPECT_THAT(names_in(root_ / "class/infiniband_verbs"),
              UnorderedElementsAre("abi_version", "uverbs9000", "uverbs0"));
  EXPECT_THAT(names_in(root_ / "dev/infiniband"),
              UnorderedElementsAre("uverbs9000", "uverbs0", "rdma_cm"));
  EXPECT_EQ(fs::read_symlink(root_ / "dev/infiniband/uverbs0"),
            fs::canonical(dir_.path() / "dev/infiniband/uverbs0"));
  EXPECT_EQ(read_text(root_ / "class/infiniband/mlx5_0/node_type"), "1: CA\n");
  EXPECT_TRUE(fs::read_symlink(root_ / "class/infiniband/mlx5_0").is_absolute());
}

TEST_F(SysfsTreeTest, FollowsTheKernelsChanges) {
  write(two_gid_device());
  make_kernel("mlx5_0", "uverbs0");
  refresh();
  fs::remove_all(dir_.path() / "sys");
  fs::remove_all(dir_.path() / "dev");
  make_kernel("rxe0", "uverbs1");
  refresh();
  refresh();
  EXPECT_THAT(names_in(root_ / "class/infiniband"), UnorderedElementsAre("flexins0", "rxe0"));
  EXPECT_THAT(names_in(root_ / "dev/infiniband"),
              UnorderedElementsAre("uverbs9000", "uverbs0", "uverbs1", "rdma_cm"));
  EXPECT_EQ(fs::read_symlink(root_ / "dev/infiniband/uverbs0"), "/dev/null");
}

TEST_F(SysfsTreeTest, KeepsOursWhenTheKernelHasTheSameName) {
  write(two_gid_device());
  make_kernel("flexins0", "uverbs9000");
  refresh();
  EXPECT_TRUE(fs::read_symlink(root_ / "class/infiniband/flexins0").is_relative());
  EXPECT_EQ(fs::read_symlink(root_ / "dev/infiniband/uverbs9000"), "/dev/null");
}

TEST_F(SysfsTreeTest, RefreshNeedsATree) {
  auto done = refresh_kernel_devices(root_, dir_.path() / "sys", dir_.path() / "dev");
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, ENOENT);
}

}  // namespace
}  // namespace flexins::preload_test
