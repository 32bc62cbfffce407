#include <gtest/gtest.h>

#include "harness.h"

/// XRC domains: who shares them, whose SRQ receives, and how long a target lives.

namespace flexins::engine::testing {
namespace {

using base::AsyncEvent;
using base::QpState;
using base::QpType;
using base::WrOpcode;

constexpr uint32_t kDepth = 8;
constexpr XrcdFile kFile{1, 2};

base::Result<base::XrcdId> open(Application& by, std::optional<XrcdFile> file, bool create = true,
                                bool exclusive = false) {
  return by.host.engine->open_xrcd(by.context, {file, create, exclusive});
}

/// An SRQ in a domain, with memory to receive into.
struct XrcQueue {
  Application& owner;
  Ring ring{pipe::receive_ring_bytes(kDepth, 1)};
  pipe::ReceiveProducer receives{ring.data(), kDepth, 1};
  base::Srqn number;
  std::vector<uint8_t> sink = std::vector<uint8_t>(1000);
  base::MemoryKey key;

  XrcQueue(Application& by, base::XrcdId xrcd) : owner(by) {
    CreateSrq request;
    request.pd = by.pd;
    request.max_wr = kDepth;
    request.xrcd = xrcd;
    request.cq = by.cq;
    number = by.host.engine->create_srq(by.context, request, ring.get()).value();
    key = by.register_memory(sink.data(), sink.size());
  }
  void receive(uint64_t wr_id) {
    const base::Sge into{reinterpret_cast<uint64_t>(sink.data()), 1000, key.value};
    receives.write(wr_id, {&into, 1});
    receives.publish();
  }
};

base::Qpn create_qp(Application& by, QpType type, base::XrcdId xrcd = {}, uint64_t cookie = 99) {
  CreateQp request;
  request.type = type;
  request.pd = by.pd;
  request.send_cq = by.cq;
  request.cookie = cookie;
  request.xrcd = xrcd;
  request.max_send_wr = 64;
  return by.host.engine->create_qp(by.context, request, {}).value();
}

void to_rts(Application& by, base::Qpn qpn, const wire::IpAddress& peer, base::Qpn peer_qpn) {
  base::QpAttributes a;
  a.state = QpState::kInit;
  a.port_number = 1;
  a.access_flags = 15;
  ASSERT_TRUE(
      by.modify(qpn, a, base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpAccessFlags)
          .ok());
  a.state = QpState::kReadyToReceive;
  a.path_mtu = 3;
  a.destination_qpn = peer_qpn.value;
  a.max_dest_rd_atomic = 4;
  a.min_rnr_timer = 12;
  a.address.destination_gid = peer.bytes;
  a.address.is_global = 1;
  ASSERT_TRUE(by.modify(qpn, a,
                        base::kQpState | base::kQpAddressVector | base::kQpPathMtu |
                            base::kQpDestQpn | base::kQpRqPsn | base::kQpMaxDestRdAtomic |
                            base::kQpMinRnrTimer)
                  .ok());
  a.state = QpState::kReadyToSend;
  a.timeout = 14;
  a.retry_count = a.rnr_retry = 7;
  a.max_rd_atomic = 4;
  ASSERT_TRUE(by.modify(qpn, a,
                        base::kQpState | base::kQpTimeout | base::kQpRetryCount |
                            base::kQpRnrRetry | base::kQpSqPsn | base::kQpMaxRdAtomic)
                  .ok());
}

/// A client with an initiator; on the other host the first program has the target, and both
/// programs have an SRQ in the domain.
struct Domain {
  World world;
  Application client{world.a};
  Application first{world.b};
  Application second{world.b};
  base::XrcdId xrcd[2] = {open(first, kFile).value(), open(second, kFile, false).value()};
  XrcQueue queue[2] = {{first, xrcd[0]}, {second, xrcd[1]}};
  base::Qpn target = create_qp(first, QpType::kXrcReceive, xrcd[0]);
  base::Qpn initiator = create_qp(client, QpType::kXrcSend);
  std::vector<uint8_t> bytes = std::vector<uint8_t>(1000, 7);
  base::MemoryKey source_key = client.register_memory(bytes.data(), bytes.size());

  Domain() {
    to_rts(client, initiator, world.b.address, target);
    to_rts(first, target, world.a.address, initiator);
  }
  Engine& engine() { return *world.b.engine; }
  /// The status of the sender's completion.
  int send(base::Srqn to) {
    client.producer.slot(0).remote_srqn = to.value;
    client.post(initiator, WrOpcode::kSend,
                {reinterpret_cast<uint64_t>(bytes.data()), 10, source_key.value}, 0, 0, 1);
    world.run(1);
    return client.poll().status;
  }
};

TEST(XrcDomains, AreSharedThroughAFile) {
  World world;
  Application one{world.a}, other{world.a};
  EXPECT_EQ(open(one, kFile, false).error().code, EAGAIN);
  const auto made = open(one, kFile, true, true);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(open(other, kFile, true, true).error().code, EINVAL);
  const auto joined = open(other, kFile, false);
  ASSERT_TRUE(joined.ok());
  EXPECT_TRUE(open(other, std::nullopt, false).ok());
  Engine& engine = *world.a.engine;
  EXPECT_EQ(engine.close_xrcd(other.context, *made).error().code, ENOENT);
  ASSERT_TRUE(engine.close_xrcd(one.context, *made).ok());
  EXPECT_TRUE(open(one, kFile, false).ok()) << "the other still has it open";
  engine.close_context(one.context);
  engine.close_context(other.context);
  Application third{world.a};
  EXPECT_EQ(open(third, kFile, false).error().code, EAGAIN);
}

TEST(XrcDomains, ReceiveIntoTheQueueOfAnyProgramInThem) {
  Domain d;
  for (int i : {0, 1}) d.queue[i].receive(10 + i);
  EXPECT_EQ(d.send(d.queue[1].number), 0);
  EXPECT_EQ(d.second.poll().wr_id, 11u);
  EXPECT_EQ(d.queue[1].sink[9], 7);
  EXPECT_EQ(d.send(d.queue[0].number), 0);
  EXPECT_EQ(d.first.poll().wr_id, 10u);
  EXPECT_EQ(d.second.poll().status, -1);
}

TEST(XrcDomains, CompletionsNameTheTargetAndNoGeneration) {
  Domain d;
  d.queue[1].receive(11);
  ASSERT_EQ(d.send(d.queue[1].number), 0);
  const pipe::CompletionEntry* entry = d.second.consumer.front();
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->qpn, d.target.value);
  EXPECT_EQ(entry->generation, pipe::kNoGeneration);
}

TEST(XrcDomains, KeepOthersOut) {
  Domain d;
  Application stranger{d.world.b};
  XrcQueue queue{stranger, open(stranger, std::nullopt).value()};
  queue.receive(1);
  EXPECT_EQ(d.send(queue.number), static_cast<int>(base::WcStatus::kRemoteInvalidRequest));
  EXPECT_EQ(queue.receives.consumed(), 0u);
  EXPECT_EQ(stranger.poll().status, -1);
  const auto opened =
      d.engine().open_qp(stranger.context, open(stranger, std::nullopt).value(), d.target, 5);
  EXPECT_EQ(opened.error().code, EINVAL);
  EXPECT_FALSE(d.engine().query_qp(stranger.context, d.target).ok());
}

TEST(XrcDomains, AreBusyWhileTheyAreUsed) {
  Domain d;
  EXPECT_EQ(d.engine().close_xrcd(d.first.context, d.xrcd[0]).error().code, EBUSY);
  EXPECT_EQ(d.engine().destroy_cq(d.second.context, d.second.cq).error().code, EBUSY);
  EXPECT_TRUE(d.engine().destroy_srq(d.second.context, d.queue[1].number).ok());
  EXPECT_TRUE(d.engine().close_xrcd(d.second.context, d.xrcd[1]).ok());
  EXPECT_TRUE(d.engine().destroy_cq(d.second.context, d.second.cq).ok());
  EXPECT_TRUE(d.engine().destroy_srq(d.first.context, d.queue[0].number).ok());
  EXPECT_EQ(d.engine().close_xrcd(d.first.context, d.xrcd[0]).error().code, EBUSY);
  EXPECT_EQ(d.engine().destroy_qp(d.first.context, d.target).error().code, EINVAL);
  EXPECT_TRUE(d.engine().close_qp(d.first.context, d.target, 99).ok());
  EXPECT_TRUE(d.engine().close_xrcd(d.first.context, d.xrcd[0]).ok());
}

TEST(XrcTargets, LiveUntilTheLastOpenerHasGone) {
  for (const bool dies : {false, true}) {
    Domain d;
    ASSERT_TRUE(d.engine().open_qp(d.second.context, d.xrcd[1], d.target, 5).ok());
    if (dies) {
      d.engine().close_context(d.first.context);
    } else {
      ASSERT_TRUE(d.engine().close_qp(d.first.context, d.target, 99).ok());
      EXPECT_EQ(d.engine().close_qp(d.first.context, d.target, 99).error().code, ENOENT);
    }
    d.queue[1].receive(3);
    EXPECT_EQ(d.send(d.queue[1].number), 0);
    EXPECT_EQ(d.second.poll().wr_id, 3u);
    EXPECT_TRUE(d.engine().query_qp(d.second.context, d.target).ok());
    ASSERT_TRUE(d.engine().close_qp(d.second.context, d.target, 5).ok());
    EXPECT_FALSE(d.engine().query_qp(d.second.context, d.target).ok());
    EXPECT_TRUE(d.engine().destroy_srq(d.second.context, d.queue[1].number).ok());
    EXPECT_TRUE(d.engine().close_xrcd(d.second.context, d.xrcd[1]).ok());
  }
}

TEST(XrcTargets, TellAllOpenersOfEvents) {
  Domain d;
  ASSERT_TRUE(d.engine().open_qp(d.second.context, d.xrcd[1], d.target, 5).ok());
  base::QpAttributes error;
  error.state = QpState::kError;
  ASSERT_TRUE(d.second.modify(d.target, error, base::kQpState).ok());
  const auto last = AsyncEvent::kLastWqeReached;
  EXPECT_EQ(d.first.events.async.back(), std::make_pair(uint64_t{99}, last));
  EXPECT_EQ(d.second.events.async.back(), std::make_pair(uint64_t{5}, last));
  d.second.events.unread[5] = 1;
  EXPECT_EQ(d.engine().close_qp(d.second.context, d.target, 5).value().async, 0u);
  EXPECT_EQ(d.engine().close_qp(d.first.context, d.target, 99).value().async, 1u);
}

TEST(XrcTargets, OutliveAProgramWhoseQueueTheyUsed) {
  Domain d;
  d.queue[1].receive(3);
  d.engine().close_context(d.second.context);
  EXPECT_EQ(d.send(d.queue[1].number), static_cast<int>(base::WcStatus::kRemoteInvalidRequest));
}

TEST(XrcQueues, ServeNoOrdinaryQp) {
  Domain d;
  CreateQp request;
  request.pd = d.first.pd;
  request.send_cq = request.receive_cq = d.first.cq;
  request.srq = d.queue[0].number;
  EXPECT_EQ(d.engine().create_qp(d.first.context, request, {}).error().code, EINVAL);
}

TEST(XrcInitiators, FailAndResetWithoutARing) {
  Domain d;
  base::QpAttributes to;
  to.state = QpState::kError;
  ASSERT_TRUE(d.client.modify(d.initiator, to, base::kQpState).ok());
  d.world.run(1);
  to.state = QpState::kReset;
  ASSERT_TRUE(d.client.modify(d.initiator, to, base::kQpState).ok());
  ASSERT_TRUE(d.first.modify(d.target, to, base::kQpState).ok());
}

}  // namespace
}  // namespace flexins::engine::testing
