/* The least that libibverbs lists a device with: enough for ibv_devices, no more. Offsets as in the
 * provider ABI 34. */
#include <stdint.h>
#include <stdlib.h>

struct match_entry {
  void* driver_data;
  const char* modalias;
  uint16_t vendor;
  uint16_t device;
  uint8_t kind;
};

struct device_ops {
  const char* name;
  uint32_t match_min_abi_version;
  uint32_t match_max_abi_version;
  const struct match_entry* match_table;
  const void* static_providers;
  void* match_device;
  void* alloc_context;
  void* import_context;
  void* (*alloc_device)(void* sysfs_device);
  void (*uninit_device)(void* device);
};

static void* alloc_device(void* sysfs_device) {
  (void)sysfs_device;
  return calloc(1, 712);
}

static const struct match_entry kMatches[] = {
    {.modalias = "rdma_device:*Nflexins*", .kind = 2},
    {0},
};

static const struct device_ops kOps = {
    .name = "fake",
    .match_min_abi_version = 1,
    .match_max_abi_version = 1,
    .match_table = kMatches,
    .alloc_device = alloc_device,
    .uninit_device = free,
};

extern void verbs_register_driver_34(const struct device_ops* ops);

__attribute__((constructor)) static void register_driver(void) { verbs_register_driver_34(&kOps); }
