#include <cstring>

#include <gtest/gtest.h>

#include "harness.h"

/// Unreliable connections: what arrives whole is received, the rest is as if it had not been sent.

namespace flexins::transport::test {
namespace {

using base::AsyncEvent;
using base::QpState;
using base::WcStatus;
using base::WrOpcode;
using wire::Opcode;

struct Unreliable : testing::Test {
  void connect(Options options = {}) {
    options.type = base::QpType::kUnreliable;
    harness = std::make_unique<Harness>(options);
    harness->connect();
    source = &harness->hosts[0].allocate(200'000);
    target = &harness->hosts[1].allocate(200'000);
    source->fill(1);
    target->fill(2);
  }
  Request write(uint64_t id, size_t length, size_t at = 0) {
    return make_request(WrOpcode::kRdmaWrite, id, {source->sge(at, length)}, target->address(at),
                        target->key);
  }
  Request send(uint64_t id, size_t length) {
    return make_request(WrOpcode::kSend, id, {source->sge(0, length)});
  }
  void lose(Opcode opcode, int nth) {
    harness->fate = [=, count = 0](Packet& packet) mutable {
      return packet.headers.bth.opcode == opcode && count++ == nth ? 0 : 1;
    };
  }
  bool same(size_t length, size_t at = 0) {
    return std::memcmp(source->bytes.get() + at, target->bytes.get() + at, length) == 0;
  }
  const std::vector<Completion>& sent() { return harness->hosts[0].sends.all; }
  const std::vector<Completion>& received() { return harness->hosts[1].receives_done.all; }

  std::unique_ptr<Harness> harness;
  Buffer* source = nullptr;
  Buffer* target = nullptr;
};

TEST_F(Unreliable, MovesAllSizes) {
  for (const uint8_t mtu_code : {1, 3, 5}) {
    const uint32_t mtu = 128u << mtu_code;
    for (const uint32_t size : {0u, 1u, 3u, mtu - 1, mtu, mtu + 1, 2 * mtu, 7 * mtu + 13}) {
      Options options;
      options.path_mtu = mtu_code;
      options.psn[0] = 0xff'fffd;
      connect(options);
      harness->hosts[1].receives.post(9, {target->sge(100'000, 100'000)});
      harness->hosts[1].receives.post(10, {});
      Request immediate = send(2, size);
      immediate.wqe.opcode = WrOpcode::kSendWithImmediate;
      immediate.wqe.immediate = 0x1234;
      Request last = write(3, size);
      last.wqe.opcode = WrOpcode::kRdmaWriteWithImmediate;
      last.wqe.immediate = 0xabcd;
      last.wqe.flags |= base::kSendSolicited;
      ASSERT_TRUE(harness->post(0, write(1, size)));
      ASSERT_TRUE(harness->post(0, immediate));
      ASSERT_TRUE(harness->post(0, last));
      harness->settle();
      EXPECT_TRUE(same(size)) << size;
      EXPECT_EQ(std::memcmp(source->bytes.get(), target->bytes.get() + 100'000, size), 0);
      ASSERT_EQ(sent().size(), 3u);
      for (const Completion& c : sent()) EXPECT_EQ(c.status, WcStatus::kSuccess);
      EXPECT_EQ(sent()[2].retired, 3u);
      ASSERT_EQ(received().size(), 2u);
      EXPECT_EQ(received()[0].opcode, base::WcOpcode::kReceive);
      EXPECT_EQ(received()[0].byte_length, size);
      EXPECT_EQ(received()[0].immediate, 0x1234u);
      EXPECT_EQ(received()[1].opcode, base::WcOpcode::kReceiveRdmaWithImmediate);
      EXPECT_EQ(received()[1].byte_length, size);
      EXPECT_EQ(received()[1].immediate, 0xabcdu);
      EXPECT_TRUE(received()[1].solicited);
      EXPECT_FALSE(harness->pull(1).has_value()) << "nothing is answered";
      EXPECT_EQ(harness->hosts[0].qp->deadline(), base::kNever);
    }
  }
}

TEST_F(Unreliable, ASendCompletesWhenItHasLeft) {
  connect();
  ASSERT_TRUE(harness->post(0, send(1, 2048)));
  TxStatus status;
  ASSERT_TRUE(harness->pull(0, &status, false));
  harness->hosts[0].qp->on_transmitted();
  EXPECT_TRUE(sent().empty()) << "its second packet has not left";
  ASSERT_TRUE(harness->pull(0, &status, false));
  EXPECT_TRUE(sent().empty());
  harness->hosts[0].qp->on_transmitted();
  EXPECT_EQ(sent().size(), 1u);
}

TEST_F(Unreliable, ALostPacketCostsItsMessageOnly) {
  for (const Opcode lost : {Opcode::kUcSendFirst, Opcode::kUcSendMiddle, Opcode::kUcSendLast}) {
    connect();
    lose(lost, 0);
    for (uint64_t i = 0; i < 2; ++i) {
      harness->hosts[1].receives.post(20 + i, {target->sge(0, 10'000)});
    }
    ASSERT_TRUE(harness->post(0, send(1, 5000)));
    ASSERT_TRUE(harness->post(0, send(2, 6000)));
    harness->settle();
    EXPECT_EQ(sent().size(), 2u) << "the sender does not know";
    ASSERT_EQ(received().size(), 1u);
    EXPECT_EQ(received()[0].wr_id, 20u) << "the receive that was begun serves the next";
    EXPECT_EQ(received()[0].byte_length, 6000u);
    EXPECT_TRUE(same(6000));
    EXPECT_EQ(harness->hosts[1].receives.posted.size(), 1u);
    EXPECT_FALSE(harness->pull(1).has_value());
    EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kReadyToSend);
  }
}

TEST_F(Unreliable, AWriteThatLostItsMiddleReportsNoImmediate) {
  connect();
  lose(Opcode::kUcWriteMiddle, 0);
  harness->hosts[1].receives.post(20, {});
  Request request = write(1, 5000);
  request.wqe.opcode = WrOpcode::kRdmaWriteWithImmediate;
  ASSERT_TRUE(harness->post(0, request));
  harness->settle();
  EXPECT_TRUE(received().empty());
  ASSERT_TRUE(harness->post(0, request));
  harness->settle();
  ASSERT_EQ(received().size(), 1u);
  EXPECT_TRUE(same(5000));
}

TEST_F(Unreliable, ASendWithoutReceiveIsDropped) {
  connect();
  ASSERT_TRUE(harness->post(0, send(1, 3000)));
  harness->settle();
  harness->hosts[1].receives.post(20, {target->sge(0, 10'000)});
  ASSERT_TRUE(harness->post(0, send(2, 4000)));
  harness->settle();
  ASSERT_EQ(received().size(), 1u);
  EXPECT_EQ(received()[0].byte_length, 4000u);
  EXPECT_GT(harness->hosts[1].qp->counters().dropped_received, 0u);
}

TEST_F(Unreliable, AWriteThatIsNotAllowedIsDropped) {
  connect();
  Request wrong_key = write(1, 3000);
  wrong_key.wqe.remote_key ^= 1;
  Request beyond = write(2, 3000);
  beyond.wqe.remote_address = target->address(200'000 - 2999);
  ASSERT_TRUE(harness->post(0, wrong_key));
  ASSERT_TRUE(harness->post(0, beyond));
  harness->settle();
  Buffer untouched;
  untouched.bytes = std::make_unique<std::byte[]>(200'000);
  untouched.length = 200'000;
  untouched.fill(2);
  EXPECT_EQ(std::memcmp(untouched.bytes.get(), target->bytes.get(), 200'000), 0);
  EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kReadyToSend);
  EXPECT_TRUE(harness->hosts[1].observer.events.empty());
  ASSERT_TRUE(harness->post(0, write(3, 3000)));
  harness->settle();
  EXPECT_TRUE(same(3000));
}

TEST_F(Unreliable, ATooShortReceiveIsAnError) {
  connect();
  harness->hosts[1].receives.post(20, {target->sge(0, 2999)});
  harness->hosts[1].receives.post(21, {target->sge(0, 2999)});
  ASSERT_TRUE(harness->post(0, send(1, 3000)));
  harness->settle();
  ASSERT_EQ(received().size(), 2u);
  EXPECT_EQ(received()[0].status, WcStatus::kLocalLength);
  EXPECT_EQ(received()[1].status, WcStatus::kWrFlush);
  EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kError);
  EXPECT_FALSE(harness->pull(1).has_value());
}

TEST_F(Unreliable, AReceiveIntoForeignMemoryIsAnError) {
  connect();
  harness->hosts[1].receives.post(20, {{target->address(), 5000, target->key ^ 1}});
  ASSERT_TRUE(harness->post(0, send(1, 3000)));
  harness->settle();
  ASSERT_EQ(received().size(), 1u);
  EXPECT_EQ(received()[0].status, WcStatus::kLocalProtection);
}

TEST_F(Unreliable, ABadRequestStopsSendingAndNotReceiving) {
  connect();
  Request foreign = send(2, 100);
  foreign.sges[0].key ^= 1;
  Request read = write(2, 100);
  read.wqe.opcode = WrOpcode::kRdmaRead;
  for (const auto& [request, status] : {std::pair(foreign, WcStatus::kLocalProtection),
                                        std::pair(read, WcStatus::kLocalQpOperation)}) {
    const size_t before = sent().size();
    ASSERT_TRUE(harness->post(0, write(1, 3000)));
    ASSERT_TRUE(harness->post(0, request));
    ASSERT_TRUE(harness->post(0, write(3, 100)));
    harness->settle();
    ASSERT_EQ(sent().size(), before + 3);
    EXPECT_EQ(sent()[before].status, WcStatus::kSuccess);
    EXPECT_EQ(sent()[before + 1].status, status);
    EXPECT_EQ(sent()[before + 2].status, WcStatus::kWrFlush);
    EXPECT_EQ(harness->hosts[0].qp->state(), QpState::kSendQueueError);
    ASSERT_TRUE(harness->post(0, write(4, 100)));
    EXPECT_EQ(sent().back().status, WcStatus::kWrFlush);
    harness->hosts[0].receives.post(7, {source->sge(100'000, 1000)});
    ASSERT_TRUE(harness->post(1, make_request(WrOpcode::kSend, 1, {target->sge(100'000, 1000)})));
    harness->settle();
    EXPECT_EQ(harness->hosts[0].receives_done.all.back().status, WcStatus::kSuccess);
    ASSERT_TRUE(harness->modify(0, QpState::kReadyToSend).ok());
  }
}

TEST_F(Unreliable, PacketsOfOtherClassesAndPlacesAreDropped) {
  connect();
  ASSERT_TRUE(harness->post(0, write(1, 100)));
  Packet packet = *harness->pull(0);
  auto elsewhere = harness->hosts[0].path.source;
  elsewhere.bytes[15] ^= 1;
  const iovec piece{packet.payload.data(), packet.payload.size()};
  harness->hosts[1].qp->on_packet(packet.headers, std::span(&piece, 1), 100, elsewhere, false, 0);
  EXPECT_EQ(harness->hosts[1].qp->counters().dropped_received, 1u);
  packet.headers.bth.opcode = Opcode::kRcWriteOnly;
  harness->deliver(packet);
  EXPECT_EQ(harness->hosts[1].qp->counters().dropped_received, 2u);
  EXPECT_FALSE(same(100));
}

TEST_F(Unreliable, NonsenseIsDropped) {
  connect();
  harness->hosts[1].receives.post(20, {target->sge(0, 10'000)});
  ASSERT_TRUE(harness->post(0, send(1, 3000)));
  std::vector<Packet> packets;
  while (auto packet = harness->pull(0)) packets.push_back(std::move(*packet));
  ASSERT_EQ(packets.size(), 3u);
  Packet short_first = packets[0];
  short_first.payload.resize(100);
  harness->deliver(short_first);
  harness->deliver(packets[1]);
  harness->deliver(packets[2]);
  EXPECT_TRUE(received().empty());
  // A WRITE in the middle of a SEND ends it.
  harness->deliver(packets[0]);
  Packet other = packets[1];
  other.headers.bth.opcode = Opcode::kUcWriteMiddle;
  harness->deliver(other);
  harness->deliver(packets[2]);
  EXPECT_TRUE(received().empty());
  EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kReadyToSend);
}

TEST_F(Unreliable, DrainsAndFlushes) {
  connect();
  ASSERT_TRUE(harness->post(0, write(1, 3000)));
  ASSERT_TRUE(harness->post(0, write(2, 3000)));
  ASSERT_TRUE(harness->pull(0));
  ASSERT_TRUE(harness->modify(0, QpState::kSendQueueDrained, base::kQpEnableSqdNotify).ok());
  EXPECT_EQ(harness->hosts[0].qp->query().sq_draining, 1);
  harness->settle();
  EXPECT_EQ(sent().size(), 1u) << "what was begun, no more";
  EXPECT_EQ(harness->hosts[0].observer.events, std::vector<AsyncEvent>{AsyncEvent::kSqDrained});
  ASSERT_TRUE(harness->modify(0, QpState::kError).ok());
  ASSERT_EQ(sent().size(), 2u);
  EXPECT_EQ(sent()[1].status, WcStatus::kWrFlush);
  ASSERT_TRUE(harness->modify(0, QpState::kReset).ok());
}

}  // namespace
}  // namespace flexins::transport::test
