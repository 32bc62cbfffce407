#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/address.h"

/// The host's network interfaces, as a port needs to know them. Control path.

namespace flexins::port {

struct Interface {
  std::string name;
  uint32_t index = 0;
  uint32_t mtu_bytes = 0;
  bool up = false;
  bool running = false;  ///< up, and with a carrier
  bool loopback = false;
};

/// The interface that holds `address`; on a loopback interface the whole prefix is local, so that
/// 127.0.0.2 belongs to it too. EADDRNOTAVAIL if none does.
[[nodiscard]] base::Result<Interface> interface_of(const wire::IpAddress& address);

/// Every address of an interface that is up, loopback included, in the kernel's order. IPv6
/// addresses of link scope are left out: a GID cannot name their interface.
struct InterfaceAddress {
  Interface interface;
  wire::IpAddress address;
};
[[nodiscard]] base::Result<std::vector<InterfaceAddress>> interface_addresses();

/// The largest RoCE path MTU (256, 512, 1024, 2048 or 4096 bytes of payload) whose packets fit an
/// interface MTU, all headers counted for the larger IP version; 0 if even 256 does not fit.
[[nodiscard]] uint32_t roce_mtu_bytes(uint32_t interface_mtu_bytes);

/// "192.0.2.1" or "fe80::1".
[[nodiscard]] std::string to_string(const wire::IpAddress& address);
/// Reads what to_string writes. EINVAL.
[[nodiscard]] base::Result<wire::IpAddress> parse_address(const std::string& text);

}  // namespace flexins::port
