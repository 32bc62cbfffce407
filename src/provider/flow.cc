#include "provider/flow.h"

#include <errno.h>

#include <array>
#include <cstring>
#include <memory>
#include <mutex>

#include "protocol/messages_datagram.h"
#include "provider/context.h"
#include "provider/counters.h"
#include "provider/guard.h"

// Flows of raw packet QPs: the program's list of layers becomes one value and mask.

namespace flexins::provider {
namespace {

using base::FlowKey;
using base::FlowRule;

constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;

struct Flow {
  ibv_flow face{};  ///< first: libibverbs' pointer is ours
  uint32_t qpn = 0;
  ibv_counters* counters = nullptr;
};

/// The layer at `at` as a `Spec`; null where its size says that it is another.
template <typename Spec>
const Spec* layer(const std::byte* at, size_t size) {
  return size == sizeof(Spec) ? reinterpret_cast<const Spec*>(at) : nullptr;
}

/// One field of the program's, in its value and its mask alike.
template <size_t N>
void copy(const void* from, std::array<uint8_t, N>& to, size_t offset = 0) {
  std::memcpy(to.data() + offset, from, N - offset);
}

void require(FlowRule& rule, uint8_t FlowKey::*field, uint8_t value) {
  rule.value.*field = value;
  rule.mask.*field = 0xff;
}

int add_ethernet(const ibv_flow_spec_eth& spec, FlowRule& rule) {
  if (spec.mask.vlan_tag != 0) return EOPNOTSUPP;
  const auto fill = [](const ibv_flow_eth_filter& from, FlowKey& to) {
    copy(from.dst_mac, to.destination_mac);
    copy(from.src_mac, to.source_mac);
    copy(&from.ether_type, to.ether_type);
  };
  fill(spec.val, rule.value);
  fill(spec.mask, rule.mask);
  return 0;
}

template <typename Filter>
void fill_v4(const Filter& from, FlowKey& to) {
  copy(&from.src_ip, to.source_ip, 12);
  copy(&from.dst_ip, to.destination_ip, 12);
}

int add_v4(const ibv_flow_spec_ipv4& spec, FlowRule& rule) {
  fill_v4(spec.val, rule.value);
  fill_v4(spec.mask, rule.mask);
  require(rule, &FlowKey::ip_version, 4);
  return 0;
}

int add_v4_ext(const ibv_flow_spec_ipv4_ext& spec, FlowRule& rule) {
  if (spec.mask.flags != 0) return EOPNOTSUPP;
  const auto fill = [](const ibv_flow_ipv4_ext_filter& from, FlowKey& to) {
    fill_v4(from, to);
    to.protocol = from.proto;
    to.traffic_class = from.tos;
    to.hop_limit = from.ttl;
  };
  fill(spec.val, rule.value);
  fill(spec.mask, rule.mask);
  require(rule, &FlowKey::ip_version, 4);
  return 0;
}

int add_v6(const ibv_flow_spec_ipv6& spec, FlowRule& rule) {
  const auto fill = [](const ibv_flow_ipv6_filter& from, FlowKey& to) {
    copy(from.src_ip, to.source_ip);
    copy(from.dst_ip, to.destination_ip);
    copy(&from.flow_label, to.flow_label);
    to.protocol = from.next_hdr;
    to.traffic_class = from.traffic_class;
    to.hop_limit = from.hop_limit;
  };
  fill(spec.val, rule.value);
  fill(spec.mask, rule.mask);
  require(rule, &FlowKey::ip_version, 6);
  return 0;
}

int add_ports(const ibv_flow_spec_tcp_udp& spec, uint8_t protocol, FlowRule& rule) {
  const auto fill = [](const ibv_flow_tcp_udp_filter& from, FlowKey& to) {
    copy(&from.src_port, to.source_port);
    copy(&from.dst_port, to.destination_port);
  };
  fill(spec.val, rule.value);
  fill(spec.mask, rule.mask);
  require(rule, &FlowKey::protocol, protocol);
  return 0;
}

/// Layers stand close together, so this one's pointer is at odd places.
int add_counters(const std::byte* at, size_t size, ibv_counters*& counters) {
  ibv_flow_spec_counter_action spec;
  if (size != sizeof spec) return EINVAL;
  std::memcpy(&spec, at, sizeof spec);
  if (spec.counters == nullptr || counters != nullptr) return EINVAL;
  counters = spec.counters;
  return 0;
}

int add_layer(uint32_t type, const std::byte* at, size_t size, FlowRule& rule,
              ibv_counters*& counters) {
  switch (type) {
    case IBV_FLOW_SPEC_ETH:
      if (const auto* spec = layer<ibv_flow_spec_eth>(at, size)) return add_ethernet(*spec, rule);
      return EINVAL;
    case IBV_FLOW_SPEC_IPV4:
      if (const auto* spec = layer<ibv_flow_spec_ipv4>(at, size)) return add_v4(*spec, rule);
      return EINVAL;
    case IBV_FLOW_SPEC_IPV4_EXT:
      if (const auto* spec = layer<ibv_flow_spec_ipv4_ext>(at, size)) {
        return add_v4_ext(*spec, rule);
      }
      return EINVAL;
    case IBV_FLOW_SPEC_IPV6:
      if (const auto* spec = layer<ibv_flow_spec_ipv6>(at, size)) return add_v6(*spec, rule);
      return EINVAL;
    case IBV_FLOW_SPEC_TCP:
    case IBV_FLOW_SPEC_UDP:
      if (const auto* spec = layer<ibv_flow_spec_tcp_udp>(at, size)) {
        return add_ports(*spec, type == IBV_FLOW_SPEC_TCP ? kTcp : kUdp, rule);
      }
      return EINVAL;
    case IBV_FLOW_SPEC_ACTION_COUNT: return add_counters(at, size, counters);
    default: return EOPNOTSUPP;
  }
}

/// One flow more, or less, is counted there.
void note_flow(ibv_counters* face, int change) {
  if (face == nullptr) return;
  Counters& counters = Counters::of(face);
  const std::lock_guard lock(counters.mutex);
  counters.flows += static_cast<uint32_t>(change);
}

}  // namespace

int to_rule(const ibv_flow_attr& attributes, FlowRule& rule, ibv_counters*& counters) {
  rule = {};
  counters = nullptr;
  rule.priority = attributes.priority;
  if (attributes.port != 1 || attributes.comp_mask != 0) return EINVAL;
  if (attributes.flags != 0) return EOPNOTSUPP;
  switch (attributes.type) {
    case IBV_FLOW_ATTR_NORMAL: break;
    case IBV_FLOW_ATTR_ALL_DEFAULT: rule.is_default = 1; break;
    case IBV_FLOW_ATTR_MC_DEFAULT:
      rule.is_default = 1;
      rule.value.destination_mac[0] = rule.mask.destination_mac[0] = 1;
      break;
    default: return EOPNOTSUPP;
  }
  const auto* at = reinterpret_cast<const std::byte*>(&attributes + 1);
  for (int i = 0; i < attributes.num_of_specs; ++i) {
    // Every layer begins with its type and its size.
    uint32_t type;
    uint16_t size;
    std::memcpy(&type, at, sizeof type);
    std::memcpy(&size, at + sizeof type, sizeof size);
    // A default takes all frames: it can only say where they are counted.
    if (rule.is_default != 0 && type != IBV_FLOW_SPEC_ACTION_COUNT) return EINVAL;
    if (const int error = add_layer(type, at, size, rule, counters); error != 0) return error;
    at += size;
  }
  return 0;
}

ibv_flow* create_flow(ibv_qp* qp, ibv_flow_attr* attributes) {
  return null_on_error([&]() -> base::Result<ibv_flow*> {
    auto flow = std::make_unique<Flow>();
    protocol::CreateFlowRequest request{};
    request.qpn = flow->qpn = qp->qp_num;
    if (const int error = to_rule(*attributes, request.rule, flow->counters); error != 0) {
      return base::Error{error, ""};
    }
    if (flow->counters != nullptr) request.counters = Counters::of(flow->counters).id;
    protocol::CreateFlowReply reply{};
    if (const int error = Context::of(qp->context).call(request, reply); error != 0) {
      return base::Error{error, ""};
    }
    flow->face.context = qp->context;
    flow->face.handle = reply.flow;
    note_flow(flow->counters, 1);
    return &flow.release()->face;
  });
}

int destroy_flow(ibv_flow* face) {
  return errno_on_error([&] {
    auto* flow = reinterpret_cast<Flow*>(face);
    protocol::DestroyFlowRequest request{};
    request.qpn = flow->qpn;
    request.flow = face->handle;
    // It may have gone with its QP.
    const int error = Context::of(face->context).call_to_free(request);
    if (error != 0 && error != ENOENT) return error;
    note_flow(flow->counters, -1);
    delete flow;
    return 0;
  });
}

}  // namespace flexins::provider
