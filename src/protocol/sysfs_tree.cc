#include "protocol/sysfs_tree.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>

namespace flexins::protocol {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlatformDevice = "devices/platform/flexins.0";

/// Collects the first error, so that the tree below reads like the tree.
class TreeWriter {
 public:
  explicit TreeWriter(fs::path root) : root_(std::move(root)) {}

  /// A file with one line, as sysfs has them.
  void file(const fs::path& path, const std::string& line) {
    if (error_) return;
    make_parent(path);
    std::ofstream stream(root_ / path);
    stream << line << '\n';
    stream.close();
    if (!stream) error_ = std::error_code(errno != 0 ? errno : EIO, std::generic_category());
    note(path);
  }
  void link(const fs::path& path, const fs::path& target) {
    make_parent(path);
    if (!error_) fs::create_symlink(target, root_ / path, error_);
    note(path);
  }
  void directory(const fs::path& path) {
    if (!error_) fs::create_directories(root_ / path, error_);
    note(path);
  }
  [[nodiscard]] base::Result<void> result() const {
    if (!error_) return {};
    return base::Error{error_.value(), (root_ / failed_).string() + ": " + error_.message()};
  }

 private:
  void make_parent(const fs::path& path) {
    if (!error_) fs::create_directories((root_ / path).parent_path(), error_);
  }
  void note(const fs::path& path) {
    if (error_ && failed_.empty()) failed_ = path;
  }

  fs::path root_;
  fs::path failed_;
  std::error_code error_;
};

/// Four hexadecimal digits per 16 bits, colons between: GUIDs and GIDs.
std::string colon_hex(const uint8_t* bytes, size_t size) {
  std::string text;
  for (size_t i = 0; i < size; i += 2) {
    char group[8];
    std::snprintf(group, sizeof group, "%s%02x%02x", i == 0 ? "" : ":", bytes[i], bytes[i + 1]);
    text += group;
  }
  return text;
}

std::string guid_text(uint64_t guid) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(guid >> (56 - 8 * i));
  return colon_hex(bytes, sizeof bytes);
}

/// All configured processors, 32 bits per comma-separated word, as `local_cpus` has them.
std::string cpu_mask() {
  const long count = std::max(1L, ::sysconf(_SC_NPROCESSORS_CONF));
  std::string text;
  for (long low = (count - 1) / 32 * 32; low >= 0; low -= 32) {
    const long here = std::min(32L, count - low);
    const unsigned long word = here == 32 ? 0xffffffffUL : (1UL << here) - 1;
    char group[16];
    std::snprintf(group, sizeof group, "%s%0*lx", text.empty() ? "" : ",",
                  text.empty() ? static_cast<int>((here + 3) / 4) : 8, word);
    text += group;
  }
  return text;
}

std::string cpu_list() {
  const long last = std::max(1L, ::sysconf(_SC_NPROCESSORS_CONF)) - 1;
  return last == 0 ? "0" : "0-" + std::to_string(last);
}

std::string interface_name(const GidEntry& entry) {
  return {entry.interface, ::strnlen(entry.interface, sizeof entry.interface)};
}

/// The whole table, as long as query_port says that it is; entries without a GID are zeros.
void write_gids(TreeWriter& tree, const fs::path& port_path, const PortState& port) {
  for (uint32_t i = 0; i < kMaxGids; ++i) {
    const std::string index = std::to_string(i);
    const base::Gid gid = i < port.gid_count ? port.gids[i].gid : base::Gid{};
    tree.file(port_path / "gids" / index, colon_hex(gid.data(), gid.size()));
    tree.file(port_path / "gid_attrs/types" / index, "RoCE v2");
    if (i >= port.gid_count) continue;
    tree.file(port_path / "gid_attrs/ndevs" / index, interface_name(port.gids[i]));
  }
}

void write_port(TreeWriter& tree, const fs::path& path, const SysfsDevice& device) {
  const bool active = device.port.active != 0;
  tree.file(path / "state", active ? "4: ACTIVE" : "1: DOWN");
  tree.file(path / "phys_state", active ? "5: LinkUp" : "3: Disabled");
  tree.file(path / "link_layer", "Ethernet");
  tree.file(path / "rate", device.rate);
  tree.file(path / "lid", "0x0");
  tree.file(path / "lid_mask_count", "0");
  tree.file(path / "sm_lid", "0x0");
  tree.file(path / "sm_sl", "0");
  tree.file(path / "cap_mask", "0x00010000");  // a communication manager runs here
  tree.file(path / "pkeys/0", "0xffff");
  write_gids(tree, path, device.port);
}

void write_rdma_device(TreeWriter& tree, const SysfsDevice& device) {
  const fs::path path = fs::path(kPlatformDevice) / "infiniband" / device.name;
  tree.file(path / "node_type", "1: CA");
  tree.file(path / "node_guid", guid_text(device.node_guid));
  tree.file(path / "sys_image_guid", guid_text(device.node_guid));
  tree.file(path / "fw_ver", device.firmware_version);
  tree.file(path / "hw_rev", "0x0");
  tree.file(path / "hca_type", device.board_id);
  tree.file(path / "board_id", device.board_id);
  tree.file(path / "node_desc", device.description);
  tree.file(path / "uevent", "NAME=" + device.name);
  tree.link(path / "device", "../../../flexins.0");
  tree.link(path / "subsystem", "../../../../../class/infiniband");
  write_port(tree, path / "ports/1", device);
  tree.link(fs::path("class/infiniband") / device.name, "../.." / path);
}

void write_uverbs_device(TreeWriter& tree, const SysfsDevice& device) {
  const std::string name = "uverbs" + std::to_string(device.uverbs_number);
  const fs::path path = fs::path(kPlatformDevice) / "infiniband_verbs" / name;
  tree.file(path / "ibdev", device.name);
  tree.file(path / "dev", std::string(kDeviceNumber));
  tree.file(path / "abi_version", "1");
  tree.link(path / "device", "../../../flexins.0");
  tree.link(path / "subsystem", "../../../../../class/infiniband_verbs");
  tree.file("class/infiniband_verbs/abi_version", "6");
  tree.link(fs::path("class/infiniband_verbs") / name, "../.." / path);
  tree.link(fs::path("dev/infiniband") / name, std::string(kDeviceNode));
}

/// What librdmacm looks for. The preload library answers for the device.
void write_cm_device(TreeWriter& tree) {
  tree.file("class/misc/rdma_cm/abi_version", "4");
  tree.file("class/misc/rdma_cm/dev", std::string(kDeviceNumber));
  tree.link("dev/infiniband/rdma_cm", std::string(kDeviceNode));
}

/// What programs look up about the device behind an RDMA device: place and network interfaces.
void write_platform_device(TreeWriter& tree, const SysfsDevice& device) {
  const fs::path path = kPlatformDevice;
  tree.file(path / "modalias", "platform:flexins");
  tree.file(path / "numa_node", "-1");
  tree.file(path / "local_cpus", cpu_mask());
  tree.file(path / "local_cpulist", cpu_list());
  tree.directory(path / "net");
  std::set<std::string> seen;
  for (uint32_t i = 0; i < std::min(device.port.gid_count, kMaxGids); ++i) {
    const std::string interface = interface_name(device.port.gids[i]);
    if (interface.empty() || !seen.insert(interface).second) continue;
    tree.link(path / "net" / interface, "/sys/class/net/" + interface);
  }
}

bool is_kernel_link(const fs::directory_entry& entry) {
  std::error_code ignored;
  if (!entry.is_symlink(ignored)) return false;
  const fs::path target = fs::read_symlink(entry.path(), ignored);
  return target.is_absolute() && target != kDeviceNode;
}

/// Makes the links in `directory` those to the entries of `kernel_directory`, beside our own.
std::error_code mirror(const fs::path& directory, const fs::path& kernel_directory) {
  std::error_code error;
  std::set<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (is_kernel_link(entry)) stale.insert(entry.path().filename());
  }
  if (error) return error;
  std::error_code absent;  // no RDMA in this kernel: nothing to show
  for (const auto& entry : fs::directory_iterator(kernel_directory, absent)) {
    const fs::path name = entry.path().filename();
    const fs::path link = directory / name;
    // Class entries are links into /sys/devices; what programs resolve should lead there at once.
    const fs::path resolved = fs::canonical(entry.path(), absent);
    const fs::path target = absent ? entry.path() : resolved;
    if (stale.erase(name) != 0) {
      if (fs::read_symlink(link, absent) == target) continue;
      fs::remove(link, error);
    } else if (fs::symlink_status(link, absent).type() != fs::file_type::not_found) {
      continue;  // ours
    }
    if (!error) fs::create_symlink(target, link, error);
    if (error) return error;
  }
  for (const fs::path& name : stale) fs::remove(directory / name, error);
  return error;
}

/// Programs that only want to know whether there is RDMA at all look for the first device that a
/// kernel would make. Where it has made none, that is ours.
std::error_code refresh_first_device(const fs::path& tree, const fs::path& kernel_dev) {
  const fs::path link = tree / "dev/infiniband/uverbs0";
  std::error_code error;
  const bool kernel_has_it = fs::exists(kernel_dev / "infiniband/uverbs0", error);
  const bool is_there = fs::symlink_status(link, error).type() != fs::file_type::not_found;
  const bool is_ours = is_there && fs::read_symlink(link, error) == kDeviceNode;
  error.clear();
  if (kernel_has_it && is_ours) fs::remove(link, error);
  if (!kernel_has_it && !is_ours) {
    if (is_there) fs::remove(link, error);
    if (!error) fs::create_symlink(kDeviceNode, link, error);
  }
  return error;
}

/// Puts the finished tree where the old one was.
base::Result<void> replace_tree(const fs::path& root, const fs::path& fresh) {
  std::error_code error;
  const fs::path old = root.string() + ".old";
  fs::remove_all(old, error);
  fs::rename(root, old, error);
  if (error && error.value() != ENOENT) {
    return base::Error{error.value(), root.string() + ": " + error.message()};
  }
  fs::rename(fresh, root, error);
  if (error) return base::Error{error.value(), root.string() + ": " + error.message()};
  fs::remove_all(old, error);
  return {};
}

}  // namespace

base::Result<void> write_sysfs_tree(const std::string& root, const SysfsDevice& device) {
  const fs::path fresh = root + ".new";
  std::error_code error;
  fs::remove_all(fresh, error);
  TreeWriter tree(fresh);
  write_platform_device(tree, device);
  write_rdma_device(tree, device);
  write_uverbs_device(tree, device);
  write_cm_device(tree);
  if (auto written = tree.result(); !written) return written;
  if (auto replaced = replace_tree(root, fresh); !replaced) return replaced;
  return refresh_kernel_devices(root);
}

base::Result<void> refresh_kernel_devices(const std::string& root, const std::string& kernel_sysfs,
                                          const std::string& kernel_dev) {
  const fs::path tree = root;
  std::error_code error = mirror(tree / "class/infiniband", kernel_sysfs + "/class/infiniband");
  if (!error) {
    error = mirror(tree / "class/infiniband_verbs", kernel_sysfs + "/class/infiniband_verbs");
  }
  if (!error) error = refresh_first_device(tree, kernel_dev);
  if (!error) error = mirror(tree / "dev/infiniband", kernel_dev + "/infiniband");
  if (error) return base::Error{error.value(), root + ": " + error.message()};
  return {};
}

}  // namespace flexins::protocol
