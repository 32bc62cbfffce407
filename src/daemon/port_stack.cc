#include "daemon/port_stack.h"

namespace flexins::daemon {

base::Result<std::unique_ptr<PortStack>> PortStack::open(
    const std::vector<engine::LocalAddress>& addresses, uint64_t receive_buffer_bytes) {
  port::UdpPortConfig config;
  for (const engine::LocalAddress& local : addresses) config.addresses.push_back(local.address);
  config.receive_buffer_bytes = receive_buffer_bytes;
  auto udp = port::UdpPort::open(config);
  if (!udp) return udp.error();
  return std::unique_ptr<PortStack>(
      new PortStack(std::move(udp).value(), addresses.front().interface));
}

std::vector<int> PortStack::poll_fds() const {
  std::vector<int> fds = local_.capture.poll_fds();
  for (const port::Port* port : {static_cast<const port::Port*>(&network_.capture),
                                 static_cast<const port::Port*>(&packet_)}) {
    const std::vector<int> more = port->poll_fds();
    fds.insert(fds.end(), more.begin(), more.end());
  }
  return fds;
}

std::vector<PortRow> PortStack::report() const {
  std::vector<PortRow> rows;
  for (const port::Port* port : {&local_.capture, &network_.capture}) {
    rows.push_back({std::string(port->name()), port->counters()});
  }
  rows.push_back({std::string(packet_.name()), packet_.counters()});
  return rows;
}

base::Result<void> PortStack::set_faults(const port::FaultConfig& config) {
  if (auto set = local_.faults.set(config); !set) return set;
  return network_.faults.set(config);
}

}  // namespace flexins::daemon
