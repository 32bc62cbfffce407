#include "daemon/addresses.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "port/interface.h"
#include "port/udp_socket.h"

namespace flexins::daemon {
namespace {

engine::LocalAddress local_address(const wire::IpAddress& address,
                                   const port::Interface& interface) {
  const uint32_t mtu = port::roce_mtu_bytes(interface.mtu_bytes);
  return {address, interface.name, std::max(mtu, 256u)};
}

base::Result<std::vector<engine::LocalAddress>> named_addresses(
    const std::vector<std::string>& wanted) {
  std::vector<engine::LocalAddress> addresses;
  for (const std::string& text : wanted) {
    auto address = port::parse_address(text);
    if (!address) return address.error();
    auto interface = port::interface_of(*address);
    if (!interface) return interface.error();
    const bool twice = std::any_of(addresses.begin(), addresses.end(),
                                   [&](const auto& known) { return known.address == *address; });
    if (!twice) addresses.push_back(local_address(*address, *interface));
  }
  if (addresses.size() > protocol::kMaxGids) {
    return base::Error{E2BIG, fmt::format("{} addresses: an engine serves {} at most",
                                          addresses.size(), protocol::kMaxGids)};
  }
  return addresses;
}

/// Order of automatic addresses: what peers reach comes first.
int rank(const port::InterfaceAddress& candidate) {
  if (candidate.interface.loopback) return 2;
  return candidate.address.is_v4() ? 0 : 1;
}

/// On the loopback interface only 127.0.0.1: further ones are for further engines.
bool is_wanted(const port::InterfaceAddress& candidate) {
  static constexpr uint8_t kLocalhost[4] = {127, 0, 0, 1};
  if (!candidate.interface.up) return false;
  return !candidate.interface.loopback || candidate.address == wire::IpAddress::from_v4(kLocalhost);
}

base::Result<std::vector<engine::LocalAddress>> all_addresses() {
  auto candidates = port::interface_addresses();
  if (!candidates) return candidates.error();
  std::erase_if(*candidates, [](const auto& candidate) { return !is_wanted(candidate); });
  std::stable_sort(candidates->begin(), candidates->end(),
                   [](const auto& a, const auto& b) { return rank(a) < rank(b); });
  std::vector<engine::LocalAddress> addresses;
  for (const port::InterfaceAddress& candidate : *candidates) {
    // A trial: the port opens its own.
    if (auto trial = port::open_receive_socket(candidate.address, 0); !trial) {
      spdlog::warn("{} is left out: {}", port::to_string(candidate.address), trial.error().message);
    } else if (addresses.size() == protocol::kMaxGids) {
      spdlog::warn("{} is left out: an engine serves {} addresses at most",
                   port::to_string(candidate.address), protocol::kMaxGids);
    } else {
      addresses.push_back(local_address(candidate.address, candidate.interface));
    }
  }
  if (!addresses.empty()) return addresses;
  return base::Error{EADDRINUSE,
                     candidates->empty()
                         ? "no network interface with an address is up (not even lo)"
                         : "UDP port 4791 is taken at every address of this host, by another "
                           "engine or by the kernel's Soft-RoCE (rdma_rxe takes all); name a free "
                           "address, such as --address 127.0.0.2, or use a network namespace"};
}

}  // namespace

base::Result<std::vector<engine::LocalAddress>> choose_addresses(
    const std::vector<std::string>& wanted) {
  return wanted.empty() ? all_addresses() : named_addresses(wanted);
}

protocol::PortState port_state(const std::vector<engine::LocalAddress>& addresses) {
  protocol::PortState port{};
  port.active = 1;
  port.max_mtu_bytes = wire::kMaxMtuBytes;
  port.active_mtu_bytes = wire::kMaxMtuBytes;
  for (const engine::LocalAddress& address : addresses) {
    // Verbs knows one MTU per port: the one that is right whichever GID a QP takes.
    port.active_mtu_bytes = std::min(port.active_mtu_bytes, address.mtu_bytes);
    protocol::GidEntry& entry = port.gids[port.gid_count++];
    entry.gid = address.address.bytes;
    std::strncpy(entry.interface, address.interface.c_str(), sizeof entry.interface - 1);
  }
  return port;
}

}  // namespace flexins::daemon
