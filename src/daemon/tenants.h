#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "base/ids.h"
#include "daemon/shared_memory.h"

namespace flexins::daemon {

/// What one tenant may hold at a time. Reaching a limit is ENOMEM for the caller.
struct TenantLimits {
  uint32_t sessions_max = 256;
  uint32_t pds_max = 4096;
  uint32_t regions_max = 65'536;
  uint32_t cqs_max = 8192;
  uint32_t channels_max = 4096;
  uint32_t qps_max = 8192;
  uint32_t srqs_max = 4096;
  uint32_t windows_max = 8192;
  uint32_t xrcds_max = 4096;
  uint32_t spread_tables_max = 4096;
  uint32_t counters_max = 8192;                 ///< sets of flow counters
  uint64_t ring_bytes_max = uint64_t{1} << 30;  ///< shared memory of all rings
};

/// Memory of the device that a tenant has allocated; regions over it hold on to it.
struct DeviceMemory {
  SharedMemory memory;
  base::UniqueFd fd;
  uint64_t length = 0;
};

/// What one tenant holds.
struct TenantUse {
  uint32_t sessions = 0;
  uint32_t pds = 0;
  uint32_t regions = 0;
  uint32_t cqs = 0;
  uint32_t channels = 0;
  uint32_t qps = 0;
  uint32_t srqs = 0;
  uint32_t windows = 0;
  uint32_t xrcds = 0;
  uint32_t spread_tables = 0;
  uint32_t counters = 0;
  uint64_t ring_bytes = 0;  ///< of device memory, too
  std::set<base::ContextId> contexts;
  std::map<uint32_t, std::shared_ptr<DeviceMemory>> device_memory;  ///< by number
  uint32_t last_device_memory = 0;

  friend bool operator==(const TenantUse&, const TenantUse&) = default;
};

/// Who is at the other end of a unix socket, as the kernel says.
struct PeerCredentials {
  uid_t uid = 0;
  pid_t pid = 0;
};

/// Tenants by user id. References stay valid: a tenant is remembered once it has been seen.
class Tenants {
 public:
  TenantUse& of(uid_t uid) { return uses_[uid]; }
  [[nodiscard]] const std::map<uid_t, TenantUse>& all() const { return uses_; }

 private:
  std::map<uid_t, TenantUse> uses_;
};

}  // namespace flexins::daemon
