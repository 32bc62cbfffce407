#include "daemon/cm_service.h"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "base/byte_order.h"
#include "base/verbs_types.h"

namespace flexins::daemon {
namespace {

// enum rdma_cm_event_type
constexpr uint32_t kAddrResolved = 0;
constexpr uint32_t kAddrError = 1;
constexpr uint32_t kRouteResolved = 2;
constexpr uint32_t kConnectRequest = 4;
constexpr uint32_t kConnectResponse = 5;
constexpr uint32_t kUnreachable = 7;
constexpr uint32_t kRejected = 8;
constexpr uint32_t kEstablished = 9;
constexpr uint32_t kDisconnected = 10;
constexpr uint32_t kMulticastJoin = 12;
constexpr uint32_t kTimewaitExit = 15;
constexpr uint16_t kPort = 7174;
constexpr uid_t kUser = 1000;

class FixedRoutes final : public RouteFinder {
 public:
  base::Result<wire::IpAddress> source_for(const wire::IpAddress&) override {
    if (error != 0) return base::Error{error, "no route"};
    return wire::IpAddress{};
  }
  int error = 0;
};

sockaddr_in6 v4(const char* text, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, text, &address.sin_addr);
  sockaddr_in6 out{};
  std::memcpy(&out, &address, sizeof address);
  return out;
}

/// One engine's service and a channel of it.
struct Host {
  Host(const char* address, RouteFinder& routes)
      : service(config(address), random, routes, [this](CmChannel&) { ++notices; }),
        channel(*service.open_channel(kUser).value()) {}

  static CmServiceConfig config(const char* address) {
    CmServiceConfig config;
    config.node_guid = 0x0102030405060708;
    uint8_t octets[4];
    ::inet_pton(AF_INET, address, octets);
    config.addresses.push_back({wire::IpAddress::from_v4(octets), "eth0", 1024});
    return config;
  }

  base::SystemRandom random;
  uint32_t notices = 0;
  CmService service;
  CmChannel& channel;
};

class CmServiceTest : public testing::Test {
 protected:
  template <typename Command>
  base::Result<CmAnswer> call(Host& host, uint32_t number, const Command& command) {
    auto answer =
        host.service.command(host.channel, number, std::as_bytes(std::span(&command, 1)), 0, now);
    run();
    return answer;
  }
  template <typename Response>
  static Response response(const base::Result<CmAnswer>& answer) {
    Response out{};
    EXPECT_TRUE(answer.ok()) << (answer.ok() ? "" : answer.error().message);
    if (!answer.ok()) return out;
    EXPECT_EQ(answer->output.size(), sizeof out);
    std::memcpy(&out, answer->output.data(), std::min(sizeof out, answer->output.size()));
    return out;
  }
  template <typename Command>
  int status(Host& host, uint32_t number, const Command& command) {
    auto answer = call(host, number, command);
    return answer.ok() ? 0 : answer.error().code;
  }

  /// Carries datagrams until there are none.
  void run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (Host* from : {&a, &b}) {
        cm::OutgoingMad mad;
        while (from->service.next_mad(mad)) {
          moved = true;
          Host& to = mad.path.remote == Host::config("10.0.0.1").addresses[0].address ? a : b;
          to.service.on_mad(mad.path.local, mad.path.remote, mad.bytes, now);
        }
      }
    }
  }

  uint32_t create(Host& host, uint64_t uid, uint16_t space = RDMA_PS_TCP) {
    rdma_ucm_create_id command{};
    command.uid = uid;
    command.ps = space;
    return response<rdma_ucm_create_id_resp>(call(host, RDMA_USER_CM_CMD_CREATE_ID, command)).id;
  }
  int bind(Host& host, uint32_t id, const char* address, uint16_t port) {
    rdma_ucm_bind_ip command{};
    command.id = id;
    command.addr = v4(address, port);
    return status(host, RDMA_USER_CM_CMD_BIND_IP, command);
  }
  int listen(Host& host, uint32_t id, uint32_t backlog = 0) {
    return status(host, RDMA_USER_CM_CMD_LISTEN, rdma_ucm_listen{id, backlog});
  }
  int resolve(Host& host, uint32_t id, const char* to, uint16_t port = kPort) {
    rdma_ucm_resolve_ip command{};
    command.id = id;
    command.dst_addr = v4(to, port);
    return status(host, RDMA_USER_CM_CMD_RESOLVE_IP, command);
  }
  int route(Host& host, uint32_t id) {
    return status(host, RDMA_USER_CM_CMD_RESOLVE_ROUTE, rdma_ucm_resolve_route{id, 2000});
  }
  rdma_ucm_conn_param param(uint32_t qpn) {
    rdma_ucm_conn_param param{};
    param.qp_num = qpn;
    param.valid = 1;
    param.retry_count = 7;
    param.rnr_retry_count = 6;
    param.responder_resources = 4;
    param.initiator_depth = 2;
    param.private_data_len = 3;
    param.private_data[2] = 99;
    return param;
  }
  int connect(Host& host, uint32_t id, uint32_t qpn = 0x11) {
    rdma_ucm_connect command{};
    command.id = id;
    command.conn_param = param(qpn);
    return status(host, RDMA_USER_CM_CMD_CONNECT, command);
  }
  int accept(Host& host, uint32_t id, uint64_t uid, uint32_t qpn = 0x22) {
    rdma_ucm_accept command{};
    command.id = id;
    command.uid = uid;
    if (uid != 0) command.conn_param = param(qpn);
    return status(host, RDMA_USER_CM_CMD_ACCEPT, command);
  }
  rdma_ucm_event_resp event(Host& host, uint32_t kind) {
    auto answer = call(host, RDMA_USER_CM_CMD_GET_EVENT, rdma_ucm_get_event{});
    const auto got = response<rdma_ucm_event_resp>(answer);
    EXPECT_EQ(got.event, kind);
    return got;
  }
  void no_event(Host& host) {
    EXPECT_EQ(status(host, RDMA_USER_CM_CMD_GET_EVENT, rdma_ucm_get_event{}), EAGAIN);
  }
  uint32_t destroy(Host& host, uint32_t id) {
    rdma_ucm_destroy_id command{};
    command.id = id;
    return response<rdma_ucm_destroy_id_resp>(call(host, RDMA_USER_CM_CMD_DESTROY_ID, command))
        .events_reported;
  }
  uint32_t ready_to_connect(uint64_t uid, uint16_t space = RDMA_PS_TCP) {
    const uint32_t id = create(a, uid, space);
    EXPECT_EQ(resolve(a, id, "10.0.0.2"), 0);
    event(a, kAddrResolved);
    EXPECT_EQ(route(a, id), 0);
    event(a, kRouteResolved);
    return id;
  }
  uint32_t listener(uint64_t uid, uint16_t space = RDMA_PS_TCP) {
    const uint32_t id = create(b, uid, space);
    EXPECT_EQ(bind(b, id, "0.0.0.0", kPort), 0);
    EXPECT_EQ(listen(b, id), 0);
    return id;
  }
  ib_uverbs_qp_attr attributes(Host& host, uint32_t id, base::QpState state) {
    rdma_ucm_init_qp_attr command{};
    command.id = id;
    command.qp_state = static_cast<uint32_t>(state);
    return response<ib_uverbs_qp_attr>(call(host, RDMA_USER_CM_CMD_INIT_QP_ATTR, command));
  }

  base::TimeNs now = base::kSecond;
  FixedRoutes routes;
  Host a{"10.0.0.1", routes};
  Host b{"10.0.0.2", routes};
};

TEST_F(CmServiceTest, ConnectsAndDisconnects) {
  const uint32_t server = listener(7);
  const uint32_t client = ready_to_connect(5);
  EXPECT_EQ(attributes(a, client, base::QpState::kInit).qp_attr_mask & base::kQpPort,
            base::kQpPort);
  ASSERT_EQ(connect(a, client), 0);
  const auto request = event(b, kConnectRequest);
  EXPECT_EQ(request.uid, 7U);
  EXPECT_EQ(request.param.conn.qp_num, 0x11U);
  EXPECT_EQ(request.param.conn.private_data_len, 56);
  EXPECT_EQ(request.param.conn.private_data[2], 99);
  EXPECT_EQ(request.param.conn.responder_resources, 2) << "what the peer may start";
  ASSERT_EQ(accept(b, request.id, 8), 0);
  EXPECT_EQ(event(a, kConnectResponse).param.conn.qp_num, 0x22U);
  const auto to_receive = attributes(a, client, base::QpState::kReadyToReceive);
  EXPECT_EQ(to_receive.dest_qp_num, 0x22U);
  EXPECT_EQ(to_receive.path_mtu, 3);
  EXPECT_EQ(to_receive.ah_attr.grh.dgid[15], 2);
  EXPECT_EQ(attributes(b, request.id, base::QpState::kReadyToSend).sq_psn, to_receive.rq_psn);
  ASSERT_EQ(accept(a, client, 0), 0);
  EXPECT_EQ(event(b, kEstablished).uid, 8U);

  EXPECT_EQ(status(a, RDMA_USER_CM_CMD_DISCONNECT, rdma_ucm_disconnect{client}), 0);
  event(b, kDisconnected);
  EXPECT_EQ(status(b, RDMA_USER_CM_CMD_DISCONNECT, rdma_ucm_disconnect{request.id}), 0);
  event(a, kDisconnected);
  now = a.service.next_deadline();
  a.service.on_deadline(now);
  event(a, kTimewaitExit);
  EXPECT_EQ(destroy(a, client), 5U);
  EXPECT_EQ(destroy(b, request.id), 2U);
  EXPECT_EQ(destroy(b, server), 1U);
  b.service.on_deadline(now);
  for (Host* host : {&a, &b}) {
    EXPECT_EQ(host->service.counts().ids, 0U);
    EXPECT_EQ(host->service.counts().listeners, 0U);
    EXPECT_EQ(host->service.counts().connections, 0U);
  }
}

TEST_F(CmServiceTest, RouteTellsDeviceAndPath) {
  const uint32_t client = ready_to_connect(5);
  rdma_ucm_query command{};
  command.id = client;
  const auto route =
      response<rdma_ucm_query_route_resp>(call(a, RDMA_USER_CM_CMD_QUERY_ROUTE, command));
  EXPECT_EQ(route.node_guid, base::swap_to_big(uint64_t{0x0102030405060708}));
  EXPECT_EQ(route.port_num, 1);
  EXPECT_EQ(route.num_paths, 1U);
  EXPECT_EQ(route.ib_route[0].sgid[15], 1);
  EXPECT_EQ(route.ib_route[0].dgid[15], 2);
  EXPECT_EQ(route.ib_route[0].mtu, 3);
  command.option = RDMA_USER_CM_QUERY_ADDR;
  const auto address = response<rdma_ucm_query_addr_resp>(call(a, RDMA_USER_CM_CMD_QUERY, command));
  EXPECT_EQ(address.src_size, sizeof(sockaddr_in));
  command.option = RDMA_USER_CM_QUERY_GID;
  EXPECT_EQ(response<rdma_ucm_query_addr_resp>(call(a, RDMA_USER_CM_CMD_QUERY, command)).src_size,
            48);
  command.option = RDMA_USER_CM_QUERY_PATH;
  const auto path = call(a, RDMA_USER_CM_CMD_QUERY, command);
  ASSERT_TRUE(path.ok());
  EXPECT_EQ(path->output.size(), 8 + sizeof(ib_path_rec_data));
}

TEST_F(CmServiceTest, RejectsWithData) {
  listener(7);
  const uint32_t client = ready_to_connect(5);
  connect(a, client);
  const auto request = event(b, kConnectRequest);
  rdma_ucm_reject command{};
  command.id = request.id;
  command.private_data_len = 2;
  command.private_data[1] = 77;
  EXPECT_EQ(status(b, RDMA_USER_CM_CMD_REJECT, command), 0);
  const auto rejected = event(a, kRejected);
  EXPECT_EQ(rejected.status, 28U);
  EXPECT_EQ(rejected.param.conn.private_data[1], 77);
}

TEST_F(CmServiceTest, NobodyListens) {
  connect(a, ready_to_connect(5));
  EXPECT_EQ(event(a, kRejected).status, 8U);
}

TEST_F(CmServiceTest, NoRoute) {
  routes.error = ENETUNREACH;
  const uint32_t id = create(a, 1);
  EXPECT_EQ(resolve(a, id, "192.0.2.1"), 0);
  EXPECT_EQ(event(a, kAddrError).status, static_cast<uint32_t>(-ENETUNREACH));
}

TEST_F(CmServiceTest, Datagrams) {
  listener(7, RDMA_PS_UDP);
  const uint32_t client = ready_to_connect(5, RDMA_PS_UDP);
  EXPECT_EQ(attributes(a, client, base::QpState::kInit).qkey, kCmQkey);
  ASSERT_EQ(connect(a, client), 0);
  const auto request = event(b, kConnectRequest);
  EXPECT_EQ(request.param.ud.private_data_len, 180);
  EXPECT_EQ(request.param.ud.private_data[2], 99);
  ASSERT_EQ(accept(b, request.id, 8, 0x77), 0);
  const auto established = event(a, kEstablished);
  EXPECT_EQ(established.param.ud.qp_num, 0x77U);
  EXPECT_EQ(established.param.ud.qkey, kCmQkey);
  EXPECT_EQ(established.param.ud.ah_attr.grh.dgid[15], 2);
  no_event(b);
}

TEST_F(CmServiceTest, DatagramsRefused) {
  listener(7, RDMA_PS_UDP);
  connect(a, ready_to_connect(5, RDMA_PS_UDP));
  rdma_ucm_reject command{};
  command.id = event(b, kConnectRequest).id;
  EXPECT_EQ(status(b, RDMA_USER_CM_CMD_REJECT, command), 0);
  EXPECT_EQ(event(a, kUnreachable).status, 2U);
}

TEST_F(CmServiceTest, Multicast) {
  const uint32_t id = create(a, 1, RDMA_PS_UDP);
  ASSERT_EQ(bind(a, id, "10.0.0.1", 0), 0);
  rdma_ucm_join_ip_mcast join{};
  join.id = id;
  join.uid = 55;
  join.addr = v4("239.1.2.3", 0);
  const auto member =
      response<rdma_ucm_create_id_resp>(call(a, RDMA_USER_CM_CMD_JOIN_IP_MCAST, join));
  const auto joined = event(a, kMulticastJoin);
  EXPECT_EQ(joined.uid, 55U);
  EXPECT_EQ(joined.param.ud.qkey, 0x01234567U);
  EXPECT_EQ(joined.param.ud.qp_num, 0xffffffU);
  const uint8_t group[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 239, 1, 2, 3};
  EXPECT_EQ(std::memcmp(joined.param.ud.ah_attr.grh.dgid, group, sizeof group), 0);
  EXPECT_EQ(status(a, RDMA_USER_CM_CMD_JOIN_IP_MCAST, join), EADDRINUSE);
  rdma_ucm_destroy_id leave{};
  leave.id = member.id;
  EXPECT_EQ(response<rdma_ucm_destroy_id_resp>(call(a, RDMA_USER_CM_CMD_LEAVE_MCAST, leave))
                .events_reported,
            1U);
  EXPECT_EQ(status(a, RDMA_USER_CM_CMD_LEAVE_MCAST, leave), ENOENT);
  join.addr = v4("10.1.2.3", 0);
  EXPECT_EQ(status(a, RDMA_USER_CM_CMD_JOIN_IP_MCAST, join), EINVAL);
}

TEST_F(CmServiceTest, Ports) {
  const uint32_t one = create(a, 1);
  const uint32_t two = create(a, 2);
  EXPECT_EQ(bind(a, one, "0.0.0.0", 80), EACCES);
  EXPECT_EQ(bind(a, one, "10.0.0.9", kPort), EADDRNOTAVAIL);
  EXPECT_EQ(bind(a, one, "10.0.0.1", kPort), 0);
  EXPECT_EQ(bind(a, one, "10.0.0.1", kPort), EINVAL);
  EXPECT_EQ(bind(a, two, "0.0.0.0", kPort), EADDRINUSE);
  const uint32_t other_space = create(a, 3, RDMA_PS_UDP);
  EXPECT_EQ(bind(a, other_space, "0.0.0.0", kPort), 0);
  destroy(a, one);
  EXPECT_EQ(bind(a, two, "0.0.0.0", kPort), 0);
  EXPECT_EQ(listen(a, two), 0);
  EXPECT_EQ(listen(a, two), EINVAL);
}

/// Where no address of the engine is on the loopback interface.
TEST_F(CmServiceTest, LoopbackStandsForThisHost) {
  const uint32_t listening = create(a, 7);
  EXPECT_EQ(bind(a, listening, "127.0.0.1", kPort), 0);
  EXPECT_EQ(listen(a, listening), 0);
  uint32_t qpn = 0x100;
  for (const char* to : {"127.0.0.1", "10.0.0.1"}) {
    const uint32_t client = create(a, 1);
    EXPECT_EQ(resolve(a, client, to), 0);
    event(a, kAddrResolved);
    EXPECT_EQ(route(a, client), 0);
    event(a, kRouteResolved);
    ASSERT_EQ(connect(a, client, qpn++), 0);
    EXPECT_EQ(event(a, kConnectRequest).uid, 7U);
  }
}

TEST_F(CmServiceTest, LoopbackIsAnAddressOfAnEngineThere) {
  Host there("127.0.0.2", routes);
  const uint32_t id = create(there, 1);
  EXPECT_EQ(bind(there, id, "127.0.0.1", kPort), EADDRNOTAVAIL);
  EXPECT_EQ(bind(there, id, "127.0.0.2", kPort), 0);
}

TEST_F(CmServiceTest, ReusedAddressOneListener) {
  const uint32_t ids[] = {create(a, 1), create(a, 2)};
  struct {
    rdma_ucm_set_option option;
    int value;
  } __attribute__((packed)) command{};
  for (const uint32_t id : ids) {
    command.option.id = id;
    command.option.level = RDMA_OPTION_ID;
    command.option.optname = RDMA_OPTION_ID_REUSEADDR;
    command.option.optlen = sizeof(int);
    command.value = 1;
    ASSERT_EQ(status(a, RDMA_USER_CM_CMD_SET_OPTION, command), 0);
    ASSERT_EQ(bind(a, id, "0.0.0.0", kPort), 0);
  }
  EXPECT_EQ(listen(a, ids[0]), 0);
  EXPECT_EQ(listen(a, ids[1]), EADDRINUSE);
}

TEST_F(CmServiceTest, EventsOfADestroyedIdAreWithdrawn) {
  const uint32_t id = create(a, 1);
  ASSERT_EQ(resolve(a, id, "10.0.0.2"), 0);
  EXPECT_EQ(a.notices, 1U);
  rdma_ucm_destroy_id command{};
  command.id = id;
  auto answer = call(a, RDMA_USER_CM_CMD_DESTROY_ID, command);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->withdrawn_events, 1U);
  EXPECT_EQ(response<rdma_ucm_destroy_id_resp>(answer).events_reported, 0U);
  no_event(a);
}

TEST_F(CmServiceTest, DestroyedListenerEndsWhatNobodyHasSeen) {
  const uint32_t server = listener(7);
  connect(a, ready_to_connect(5));
  EXPECT_EQ(b.service.counts().ids, 2U);
  destroy(b, server);
  EXPECT_EQ(b.service.counts().ids, 0U);
  event(a, kRejected);
}

TEST_F(CmServiceTest, Migrates) {
  CmChannel& other = *a.service.open_channel(kUser).value();
  const uint32_t id = create(a, 1);
  ASSERT_EQ(resolve(a, id, "10.0.0.2"), 0);
  rdma_ucm_migrate_id command{};
  command.id = id;
  const auto input = std::as_bytes(std::span(&command, 1));
  EXPECT_FALSE(a.service.command(other, RDMA_USER_CM_CMD_MIGRATE_ID, input, 1, now).ok());
  auto moved = a.service.command(other, RDMA_USER_CM_CMD_MIGRATE_ID, input, a.channel.secret, now);
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(moved->withdrawn_events, 1U);
  no_event(a);
  EXPECT_TRUE(a.service.command(other, RDMA_USER_CM_CMD_GET_EVENT, {}, 0, now).ok());
  EXPECT_EQ(route(a, id), ENOENT);
  a.service.close_channel(other, now);
  EXPECT_EQ(a.service.counts().ids, 0U);
}

TEST_F(CmServiceTest, ClosedChannelTellsThePeer) {
  listener(7);
  const uint32_t client = ready_to_connect(5);
  connect(a, client);
  const auto request = event(b, kConnectRequest);
  accept(b, request.id, 8);
  event(a, kConnectResponse);
  accept(a, client, 0);
  event(b, kEstablished);
  a.service.close_channel(a.channel, now);
  run();
  event(b, kDisconnected);
  EXPECT_EQ(a.service.counts().channels, 0U);
}

TEST_F(CmServiceTest, NonsenseIsRefused) {
  for (uint32_t number = 0; number < 30; ++number) {
    for (const size_t length : {0, 1, 4, 12, 40, 300, 700}) {
      const std::vector<std::byte> junk(length, std::byte{0xee});
      auto answer = a.service.command(a.channel, number, junk, 0, now);
      EXPECT_FALSE(answer.ok()) << number << ' ' << length;
    }
  }
  // AF_IB: librdmacm asks, and keeps to IP when it is refused.
  rdma_ucm_bind command{};
  command.id = create(a, 1);
  command.addr_size = 48;
  const uint16_t family = 27;
  std::memcpy(&command.addr, &family, sizeof family);
  EXPECT_EQ(status(a, RDMA_USER_CM_CMD_BIND, command), EAFNOSUPPORT);
}

}  // namespace
}  // namespace flexins::daemon
