#include "provider/flow.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace flexins::provider {
namespace {

/// A flow description with its layers behind it.
class Description {
 public:
  Description() : bytes_(sizeof(ibv_flow_attr)) { attributes().port = 1; }

  ibv_flow_attr& attributes() { return *reinterpret_cast<ibv_flow_attr*>(bytes_.data()); }
  template <typename Spec>
  void add(Spec spec, ibv_flow_spec_type type) {
    spec.type = type;
    spec.size = sizeof spec;
    const auto* begin = reinterpret_cast<const std::byte*>(&spec);
    bytes_.insert(bytes_.end(), begin, begin + sizeof spec);
    ++attributes().num_of_specs;
  }
  int read() { return to_rule(attributes(), rule, counters); }

  base::FlowRule rule;
  ibv_counters* counters = nullptr;

 private:
  std::vector<std::byte> bytes_;
};

TEST(FlowDescription, AllLayersBecomeOneRule) {
  Description flow;
  ibv_flow_spec_eth ethernet{};
  ethernet.val.dst_mac[5] = 9;
  std::memset(ethernet.mask.dst_mac, 0xff, 6);
  flow.add(ethernet, IBV_FLOW_SPEC_ETH);
  ibv_flow_spec_ipv4_ext ip{};
  ip.val.dst_ip = 0x0100'000a;
  ip.mask.dst_ip = UINT32_MAX;
  flow.add(ip, IBV_FLOW_SPEC_IPV4_EXT);
  ibv_flow_spec_tcp_udp ports{};
  ports.val.dst_port = 0x2211;
  ports.mask.dst_port = 0xffff;
  flow.add(ports, IBV_FLOW_SPEC_TCP);
  flow.attributes().priority = 3;
  ASSERT_EQ(flow.read(), 0);
  EXPECT_EQ(flow.rule.priority, 3);
  EXPECT_EQ(flow.rule.value.destination_mac[5], 9);
  EXPECT_EQ(flow.rule.mask.source_mac[5], 0);
  EXPECT_EQ(flow.rule.value.destination_ip[12], 10);
  EXPECT_EQ(flow.rule.value.ip_version, 4);
  EXPECT_EQ(flow.rule.mask.ip_version, 0xff);
  EXPECT_EQ(flow.rule.value.protocol, 6);
  EXPECT_EQ(flow.rule.value.destination_port[0], 0x11);
}

TEST(FlowDescription, RefusesWhatRulesCannotSay) {
  Description vlan;
  ibv_flow_spec_eth ethernet{};
  ethernet.mask.vlan_tag = 1;
  vlan.add(ethernet, IBV_FLOW_SPEC_ETH);
  EXPECT_EQ(vlan.read(), EOPNOTSUPP);

  Description tunnel;
  tunnel.add(ibv_flow_spec_tunnel{}, IBV_FLOW_SPEC_VXLAN_TUNNEL);
  EXPECT_EQ(tunnel.read(), EOPNOTSUPP);

  Description sniffer;
  sniffer.attributes().type = IBV_FLOW_ATTR_SNIFFER;
  EXPECT_EQ(sniffer.read(), EOPNOTSUPP);

  Description port;
  port.attributes().port = 2;
  EXPECT_EQ(port.read(), EINVAL);

  Description short_layer;
  short_layer.add(ibv_flow_spec_ipv4{}, IBV_FLOW_SPEC_IPV6);
  EXPECT_EQ(short_layer.read(), EINVAL);
}

TEST(FlowDescription, NamesItsCountersOnce) {
  ibv_counters counters{};
  ibv_flow_spec_counter_action count{};
  count.counters = &counters;
  Description flow;
  flow.attributes().type = IBV_FLOW_ATTR_ALL_DEFAULT;
  flow.add(count, IBV_FLOW_SPEC_ACTION_COUNT);
  EXPECT_EQ(flow.read(), 0);
  EXPECT_EQ(flow.counters, &counters);
  flow.add(count, IBV_FLOW_SPEC_ACTION_COUNT);
  EXPECT_EQ(flow.read(), EINVAL);
  Description none;
  count.counters = nullptr;
  none.add(count, IBV_FLOW_SPEC_ACTION_COUNT);
  EXPECT_EQ(none.read(), EINVAL);
}

TEST(FlowDescription, DefaultsHaveNoLayers) {
  Description all;
  all.attributes().type = IBV_FLOW_ATTR_ALL_DEFAULT;
  EXPECT_EQ(all.read(), 0);
  EXPECT_EQ(all.rule.is_default, 1);
  all.add(ibv_flow_spec_eth{}, IBV_FLOW_SPEC_ETH);
  EXPECT_EQ(all.read(), EINVAL);
}

}  // namespace
}  // namespace flexins::provider
