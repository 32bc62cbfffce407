#include "daemon/link_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "port/interface.h"

namespace flexins::daemon {

base::Result<void> LinkWatch::open() {
  base::UniqueFd socket(
      ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (!socket.valid() ||
      ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return base::Error{errno, std::string("watching network links: ") + std::strerror(errno)};
  }
  socket_ = std::move(socket);
  return {};
}

void LinkWatch::drain() {
  char buffer[8192];
  // An overflow (ENOBUFS) is a change like any other: the links are looked at anew in any case.
  while (::recv(socket_.get(), buffer, sizeof buffer, 0) > 0 || errno == ENOBUFS) {
  }
}

LinkState look_at_links(const std::vector<engine::LocalAddress>& addresses) {
  LinkState state;
  for (size_t i = 0; i < addresses.size(); ++i) {
    const auto interface = port::interface_of(addresses[i].address);
    if (!interface) continue;
    state.addresses_present |= 1u << i;
    state.active = state.active || interface->running;
  }
  return state;
}

std::vector<base::AsyncEvent> link_events(const LinkState& before, const LinkState& after) {
  std::vector<base::AsyncEvent> events;
  if (before.active != after.active) {
    events.push_back(after.active ? base::AsyncEvent::kPortActive : base::AsyncEvent::kPortError);
  }
  if (before.addresses_present != after.addresses_present) {
    events.push_back(base::AsyncEvent::kGidChange);
  }
  return events;
}

}  // namespace flexins::daemon
