#include "port/udp_port.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "base/fault_guard.h"
#include "port/interface.h"
#include "port/limits.h"

namespace flexins::port {

namespace {

constexpr uint64_t kDefaultReceiveBufferBytes = 4 << 20;
constexpr uint64_t kMaxReceiveBufferBytes = 512 << 20;
constexpr uint32_t kMaxFlows = 64;
constexpr uint16_t kFirstSourcePort = 0xc000;

base::Result<void> check(const UdpPortConfig& config) {
  if (config.addresses.empty()) {
    return base::Error{EINVAL, "an engine's UDP port needs at least one address"};
  }
  if (config.flows_per_address == 0 || config.flows_per_address > kMaxFlows) {
    return base::Error{EINVAL, "flows per address must be 1 to " + std::to_string(kMaxFlows)};
  }
  if (config.receive_buffers == 0 || config.receive_buffers > UdpReceive::kMaxBuffers) {
    return base::Error{EINVAL,
                       "receive buffers must be 1 to " + std::to_string(UdpReceive::kMaxBuffers)};
  }
  if (config.receive_buffer_bytes > kMaxReceiveBufferBytes) {
    return base::Error{EINVAL, "the receive buffer can be at most " +
                                   std::to_string(kMaxReceiveBufferBytes) + " bytes"};
  }
  return {};
}

uint64_t receive_buffer_of(const UdpPortConfig& config) {
  return config.receive_buffer_bytes > 0 ? config.receive_buffer_bytes : kDefaultReceiveBufferBytes;
}

base::Result<UdpTransmit::Source> open_source(const wire::IpAddress& address, uint32_t flows) {
  UdpTransmit::Source source = {.address = address, .scope_id = scope_of(address), .flows = {}};
  for (uint32_t i = 0; i < flows; ++i) {
    auto port = static_cast<uint16_t>(kFirstSourcePort + i);
    auto fd = open_transmit_socket(address, port);
    if (!fd) return fd.error();
    source.flows.push_back({std::move(*fd), port});
  }
  return source;
}

}  // namespace

base::Result<std::unique_ptr<UdpPort>> UdpPort::open(const UdpPortConfig& config) {
  if (auto checked = check(config); !checked) return checked.error();
  base::install_fault_guard();
  const uint64_t buffer_bytes = receive_buffer_of(config);
  std::vector<UdpReceive::Listener> listeners;
  std::vector<UdpTransmit::Source> sources;
  for (const wire::IpAddress& address : config.addresses) {
    auto fd = open_receive_socket(address, buffer_bytes);
    if (!fd) return fd.error();
    listeners.push_back({address, std::move(*fd)});
    auto source = open_source(address, config.flows_per_address);
    if (!source) return source.error();
    sources.push_back(std::move(*source));
  }
  uint32_t segments_max = probe_segments_max(config.addresses.front());
  if (config.segments_max > 0) segments_max = std::min(segments_max, config.segments_max);
  return std::unique_ptr<UdpPort>(new UdpPort(
      config, UdpTransmit(std::move(sources), segments_max, config.icrc, config.copy_payload_bytes),
      UdpReceive(std::move(listeners), config.receive_buffers, config.icrc)));
}

UdpPort::UdpPort(UdpPortConfig config, UdpTransmit transmit, UdpReceive receive)
    : config_(std::move(config)), transmit_(std::move(transmit)), receive_(std::move(receive)) {}

base::Result<void> UdpPort::join(const wire::IpAddress& group) {
  std::vector<uint32_t> interfaces;
  for (const wire::IpAddress& address : config_.addresses) {
    if (address.is_v4() != group.is_v4()) continue;
    const auto interface = interface_of(address);
    if (!interface) continue;
    const uint32_t index = interface.value().index;
    if (std::find(interfaces.begin(), interfaces.end(), index) == interfaces.end()) {
      interfaces.push_back(index);
    }
  }
  if (interfaces.empty()) {
    return base::Error{EINVAL, "no address of this engine is of the group's IP version"};
  }
  auto fd = open_group_socket(group, interfaces, receive_buffer_of(config_));
  if (!fd) return fd.error();
  return receive_.add({group, std::move(*fd)});
}

void UdpPort::observe_drops(DropObserver* observer) {
  transmit_.observe_drops(observer);
  receive_.observe_drops(observer);
}

Capabilities UdpPort::capabilities() const {
  // The kernel charges a datagram for the memory that holds it, not for its bytes: a lone packet of
  // 4 KiB costs twice that, a train little more than its length. Lone packets of 512 B or more are
  // what is promised; any packet costs 832 B.
  return {.max_transport_bytes = kMaxTransportBytes,
          .receive_buffer_bytes = receive_.granted_buffer_bytes() * 2 / 5};
}

std::vector<Counter> UdpPort::counters() const {
  std::vector<Counter> all;
  transmit_.append_counters(all);
  receive_.append_counters(all);
  return all;
}

}  // namespace flexins::port
