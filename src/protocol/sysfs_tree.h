#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "protocol/messages.h"

/// The tree of files that a kernel would show in /sys for an engine's device. The daemon writes it
/// at start; the preload library shows it to programs in place of /sys/class/infiniband,
/// /sys/class/infiniband_verbs, /sys/devices/platform/flexins.0 and /dev/infiniband.
///
///     class/infiniband/flexins0 -> ../../devices/platform/flexins.0/infiniband/flexins0
///     class/infiniband_verbs/{abi_version, uverbs9000 -> ../../devices/…}
///     devices/platform/flexins.0/{infiniband,infiniband_verbs,net,numa_node,local_cpus,…}
///     class/misc/rdma_cm/{abi_version,dev}
///     dev/infiniband/rdma_cm -> /dev/null
///     dev/infiniband/uverbs9000 -> /dev/null (and uverbs0, where the kernel has none)
///
/// Devices of the kernel's own stand beside ours as links with absolute targets into the real /sys
/// and /dev; relative targets (and /dev/null) are ours. The preload library tells them apart so.

namespace flexins::protocol {

/// The stand-in for the character device, and its device number as `dev` files have it.
inline constexpr std::string_view kDeviceNode = "/dev/null";
inline constexpr std::string_view kDeviceNumber = "1:3";

/// Far above what a kernel hands out (from 0, fewer than 8192), so that a real device which appears
/// later never has the name of ours.
inline constexpr uint32_t kUverbsNumber = 9000;

struct SysfsDevice {
  std::string name = "flexins0";
  uint32_t uverbs_number = kUverbsNumber;
  uint64_t node_guid = 0;  ///< its most significant byte is written first
  std::string firmware_version = "0.1.0";
  std::string board_id = "FlexiNS";
  std::string description = "FlexiNS";  ///< node_desc; usually the host's name
  PortState port{};                     ///< gids and state; the GID table has kMaxGids entries
  std::string rate = "100 Gb/sec (4X EDR)";
};

/// Writes the tree anew at `root` (whose parent must exist), then links the kernel's own devices.
/// A tree already there is replaced as a whole. Errors: what mkdir, open, write or rename say.
base::Result<void> write_sysfs_tree(const std::string& root, const SysfsDevice& device);

/// Brings the links to the kernel's own devices up to date with what is in `kernel_sysfs` and
/// `kernel_dev`. Errors: ENOENT where there is no tree, EACCES where it belongs to another user.
base::Result<void> refresh_kernel_devices(const std::string& root,
                                          const std::string& kernel_sysfs = "/sys",
                                          const std::string& kernel_dev = "/dev");

}  // namespace flexins::protocol
