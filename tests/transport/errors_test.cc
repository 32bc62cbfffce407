#include <cstring>

#include <gtest/gtest.h>

#include "harness.h"

/// Each way a request can fail: what the requester's completion says, what is on the wire, what
/// the responder's side hears.

namespace flexins::transport::test {
namespace {

using base::AsyncEvent;
using base::QpState;
using base::WcStatus;
using base::WrOpcode;
using wire::Opcode;

struct Errors : testing::Test {
  void connect(const Options& options = {}) {
    harness = std::make_unique<Harness>(options);
    harness->connect();
    source = &harness->hosts[0].allocate(10'000);
    target = &harness->hosts[1].allocate(10'000);
    harness->fate = [this](Packet& packet) {
      if (packet.headers.bth.opcode == Opcode::kRcAcknowledge) {
        syndromes.push_back(packet.headers.aeth.syndrome);
      }
      return 1;
    };
  }
  /// Posts a good WRITE, `request`, and another WRITE; expects the middle one to fail so.
  void expect_failure(const Request& request, WcStatus status, int syndrome) {
    ASSERT_TRUE(harness->post(0, write(1)));
    ASSERT_TRUE(harness->post(0, request));
    ASSERT_TRUE(harness->post(0, write(3)));
    harness->run(harness->now + base::kSecond * 60);
    const auto& done = harness->hosts[0].sends.all;
    ASSERT_EQ(done.size(), 3u);
    EXPECT_EQ(done[0].status, WcStatus::kSuccess);
    EXPECT_EQ(done[1].status, status) << int(done[1].status);
    EXPECT_EQ(done[1].wr_id, request.wqe.wr_id);
    EXPECT_EQ(done[2].status, WcStatus::kWrFlush);
    EXPECT_EQ(harness->hosts[0].qp->state(), QpState::kError);
    EXPECT_EQ(harness->hosts[0].window.in_flight_bytes, 0u);
    if (syndrome != 0) {
      ASSERT_FALSE(syndromes.empty());
      EXPECT_EQ(syndromes.back(), syndrome);
      EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kError);
      EXPECT_EQ(harness->hosts[1].qp->counters().naks_sent, 1u);
    } else {
      EXPECT_EQ(harness->hosts[1].qp->state(), QpState::kReadyToSend);
    }
  }
  void expect_event(AsyncEvent event) {
    EXPECT_EQ(harness->hosts[1].observer.events, std::vector<AsyncEvent>{event});
  }
  Request write(uint64_t id) {
    return make_request(WrOpcode::kRdmaWrite, id, {source->sge(0, 100)}, target->address(),
                        target->key);
  }
  Request operation(WrOpcode opcode, size_t length = 3000) {
    return make_request(opcode, 2, {source->sge(0, length)}, target->address(), target->key);
  }

  std::unique_ptr<Harness> harness;
  Buffer* source = nullptr;
  Buffer* target = nullptr;
  std::vector<int> syndromes;
};

TEST_F(Errors, BadLocalKey) {
  connect();
  Request request = operation(WrOpcode::kRdmaWrite);
  request.sges[0].key ^= 1;
  expect_failure(request, WcStatus::kLocalProtection, 0);
}

TEST_F(Errors, SecondElementOutOfBounds) {
  connect();
  Request request = operation(WrOpcode::kRdmaWrite);
  request.sges = {source->sge(0, 10), source->sge(9'999, 2)};
  expect_failure(request, WcStatus::kLocalProtection, 0);
  // The first WRITE, and once more to ask for its acknowledgement.
  EXPECT_EQ(harness->hosts[1].qp->counters().packets_received, 2u) << "nothing of it was sent";
  EXPECT_EQ(harness->hosts[1].qp->counters().duplicates_received, 1u);
}

TEST_F(Errors, LocalRegionOfAnotherDomain) {
  connect();
  Buffer& other = harness->hosts[0].allocate(100, kAllAccess, {2});
  Request request = operation(WrOpcode::kRdmaWrite);
  request.sges = {other.sge(0, 10)};
  expect_failure(request, WcStatus::kLocalProtection, 0);
}

TEST_F(Errors, ReadIntoMemoryWithoutLocalWrite) {
  connect();
  Buffer& read_only = harness->hosts[0].allocate(100, base::kAccessRemoteRead);
  Request request = operation(WrOpcode::kRdmaRead);
  request.sges = {read_only.sge(0, 10)};
  expect_failure(request, WcStatus::kLocalProtection, 0);
}

TEST_F(Errors, SourceMemoryGone) {
  connect();
  Buffer& gone = harness->hosts[0].allocate(5000);
  Request request = operation(WrOpcode::kRdmaWrite);
  request.sges = {gone.sge(0, 5000)};
  gone.window->gone = true;
  expect_failure(request, WcStatus::kLocalProtection, 0);
}

TEST_F(Errors, TooLong) {
  connect();
  Request request = operation(WrOpcode::kRdmaWrite);
  base::Sge half = source->sge(0, 0);
  half.length = 1u << 31;
  request.sges = {half, source->sge(0, 1)};
  expect_failure(request, WcStatus::kLocalLength, 0);
}

TEST_F(Errors, UnsupportedOperation) {
  connect();
  expect_failure(operation(WrOpcode::kBindMw), WcStatus::kLocalQpOperation, 0);
}

TEST_F(Errors, TooManyElements) {
  Options options;
  options.max_send_sge = 2;
  connect(options);
  Request request = operation(WrOpcode::kRdmaWrite);
  request.sges.assign(3, source->sge(0, 1));
  expect_failure(request, WcStatus::kLocalQpOperation, 0);
}

TEST_F(Errors, InlineTooLong) {
  Options options;
  options.max_inline_bytes = 16;
  connect(options);
  Request request = operation(WrOpcode::kRdmaWrite);
  request.sges.clear();
  request.wqe.flags |= base::kSendInline;
  request.inline_bytes.resize(17);
  expect_failure(request, WcStatus::kLocalLength, 0);
}

TEST_F(Errors, ReadWithoutInitiatorDepth) {
  Options options;
  options.max_rd_atomic = 0;
  connect(options);
  expect_failure(operation(WrOpcode::kRdmaRead), WcStatus::kLocalQpOperation, 0);
}

TEST_F(Errors, AtomicOfOtherThanEightBytes) {
  connect();
  expect_failure(operation(WrOpcode::kFetchAdd, 4), WcStatus::kLocalLength, 0);
}

TEST_F(Errors, WriteBadKey) {
  connect();
  Request request = operation(WrOpcode::kRdmaWrite);
  request.wqe.remote_key ^= 1;
  expect_failure(request, WcStatus::kRemoteAccess, 0x62);
  expect_event(AsyncEvent::kQpAccessError);
}

TEST_F(Errors, WriteOutOfBounds) {
  connect();
  Request request = operation(WrOpcode::kRdmaWrite);
  request.wqe.remote_address = target->address(10'000 - 2999);
  expect_failure(request, WcStatus::kRemoteAccess, 0x62);
}

TEST_F(Errors, WriteToRegionThatForbidsIt) {
  connect();
  Buffer& read_only = harness->hosts[1].allocate(5000, base::kAccessRemoteRead);
  Request request = operation(WrOpcode::kRdmaWrite);
  request.wqe.remote_address = read_only.address();
  request.wqe.remote_key = read_only.key;
  expect_failure(request, WcStatus::kRemoteAccess, 0x62);
}

TEST_F(Errors, ReadWhereTheQpForbidsIt) {
  Options options;
  options.access_flags = base::kAccessRemoteWrite;
  connect(options);
  expect_failure(operation(WrOpcode::kRdmaRead), WcStatus::kRemoteInvalidRequest, 0x61);
  expect_event(AsyncEvent::kQpRequestError);
}

TEST_F(Errors, ReadBadKey) {
  connect();
  Request request = operation(WrOpcode::kRdmaRead);
  request.wqe.remote_key ^= 1;
  expect_failure(request, WcStatus::kRemoteAccess, 0x62);
  expect_event(AsyncEvent::kQpAccessError);
}

TEST_F(Errors, ReadMoreThanTheResponderHolds) {
  Options options;
  options.max_dest_rd_atomic = 0;
  connect(options);
  expect_failure(operation(WrOpcode::kRdmaRead), WcStatus::kRemoteInvalidRequest, 0x61);
}

TEST_F(Errors, MisalignedAtomic) {
  connect();
  Request request = operation(WrOpcode::kCompareSwap, 8);
  request.wqe.remote_address += 4;
  expect_failure(request, WcStatus::kRemoteInvalidRequest, 0x61);
}

TEST_F(Errors, AtomicOnRegionThatForbidsIt) {
  connect();
  Buffer& plain = harness->hosts[1].allocate(64, base::kAccessRemoteWrite);
  Request request = operation(WrOpcode::kFetchAdd, 8);
  request.wqe.remote_address = plain.address();
  request.wqe.remote_key = plain.key;
  expect_failure(request, WcStatus::kRemoteAccess, 0x62);
}

TEST_F(Errors, SendLongerThanTheReceive) {
  connect();
  harness->hosts[1].receives.post(5, {target->sge(0, 2999)});
  harness->hosts[1].receives.post(6, {target->sge(0, 2999)});
  expect_failure(operation(WrOpcode::kSend), WcStatus::kRemoteOperation, 0x63);
  const auto& received = harness->hosts[1].receives_done.all;
  ASSERT_EQ(received.size(), 2u);
  EXPECT_EQ(received[0].status, WcStatus::kLocalLength);
  EXPECT_EQ(received[1].status, WcStatus::kWrFlush);
  EXPECT_TRUE(harness->hosts[1].observer.events.empty()) << "the completion says it";
}

TEST_F(Errors, ReceiveWithBadKey) {
  connect();
  harness->hosts[1].receives.post(5, {{target->address(), 5000, target->key ^ 1}});
  expect_failure(operation(WrOpcode::kSend), WcStatus::kRemoteOperation, 0x63);
  ASSERT_EQ(harness->hosts[1].receives_done.all.size(), 1u);
  EXPECT_EQ(harness->hosts[1].receives_done.all[0].status, WcStatus::kLocalProtection);
}

TEST_F(Errors, ReceiveIntoReadOnlyMemory) {
  connect();
  Buffer& read_only = harness->hosts[1].allocate(5000, base::kAccessRemoteRead);
  harness->hosts[1].receives.post(5, {read_only.sge(0, 5000)});
  expect_failure(operation(WrOpcode::kSend), WcStatus::kRemoteOperation, 0x63);
}

TEST_F(Errors, TargetMemoryGone) {
  connect();
  Buffer& gone = harness->hosts[1].allocate(5000);
  gone.window->gone = true;
  Request request = operation(WrOpcode::kRdmaWrite);
  request.wqe.remote_address = gone.address();
  request.wqe.remote_key = gone.key;
  expect_failure(request, WcStatus::kRemoteOperation, 0x63);
  expect_event(AsyncEvent::kQpFatal);
}

TEST_F(Errors, RegionDeregisteredInTheMiddleOfAWrite) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite)));
  harness->deliver(*harness->pull(0));
  ASSERT_TRUE(harness->hosts[1].regions.erase({target->key}));
  harness->settle();
  ASSERT_EQ(harness->hosts[0].sends.all.size(), 1u);
  EXPECT_EQ(harness->hosts[0].sends.all[0].status, WcStatus::kRemoteAccess);
}

TEST_F(Errors, RegionDeregisteredInTheMiddleOfAWriteWithImmediate) {
  connect();
  harness->hosts[1].receives.post(9, {});
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWriteWithImmediate)));
  harness->deliver(*harness->pull(0));
  harness->deliver(*harness->pull(0));
  ASSERT_TRUE(harness->hosts[1].regions.erase({target->key}));
  harness->settle();
  ASSERT_EQ(harness->hosts[0].sends.all.size(), 1u);
  EXPECT_EQ(harness->hosts[0].sends.all[0].status, WcStatus::kRemoteAccess);
  // The receive that the immediate took ends with a status of its own side.
  ASSERT_EQ(harness->hosts[1].receives_done.all.size(), 1u);
  EXPECT_EQ(harness->hosts[1].receives_done.all[0].status, WcStatus::kLocalAccess);
}

TEST_F(Errors, RegionDeregisteredInTheMiddleOfARead) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaRead)));
  harness->deliver(*harness->pull(0));
  harness->deliver(*harness->pull(1));
  ASSERT_TRUE(harness->hosts[1].regions.erase({target->key}));
  harness->settle();
  ASSERT_EQ(harness->hosts[0].sends.all.size(), 1u);
  EXPECT_EQ(harness->hosts[0].sends.all[0].status, WcStatus::kRemoteAccess);
}

TEST_F(Errors, AnswersOfEarlierRequestsComeBeforeTheRefusal) {
  connect();
  Request bad = write(2);
  bad.wqe.remote_key ^= 1;
  ASSERT_TRUE(harness->post(0, make_request(WrOpcode::kRdmaRead, 1, {source->sge(0, 5000)},
                                            target->address(), target->key)));
  ASSERT_TRUE(harness->post(0, bad));
  harness->settle();
  const auto& done = harness->hosts[0].sends.all;
  ASSERT_EQ(done.size(), 2u);
  EXPECT_EQ(done[0].status, WcStatus::kSuccess);
  EXPECT_EQ(done[1].status, WcStatus::kRemoteAccess);
}

TEST_F(Errors, ZeroLengthNamesNoMemory) {
  connect();
  Request write_nothing = make_request(WrOpcode::kRdmaWrite, 1, {}, 0xdead, 0xbeef);
  Request read_nothing = make_request(WrOpcode::kRdmaRead, 2, {}, 0xdead, 0xbeef);
  ASSERT_TRUE(harness->post(0, write_nothing));
  ASSERT_TRUE(harness->post(0, read_nothing));
  harness->settle();
  ASSERT_EQ(harness->hosts[0].sends.all.size(), 2u);
  EXPECT_EQ(harness->hosts[0].sends.all[0].status, WcStatus::kSuccess);
  EXPECT_EQ(harness->hosts[0].sends.all[1].status, WcStatus::kSuccess);
}

TEST_F(Errors, PacketsFromElsewhereAreDropped) {
  connect();
  ASSERT_TRUE(harness->post(0, write(1)));
  const Packet packet = *harness->pull(0);
  auto source_address = harness->hosts[0].path.source;
  source_address.bytes[15] ^= 1;
  const iovec piece{const_cast<std::byte*>(packet.payload.data()), packet.payload.size()};
  harness->hosts[1].qp->on_packet(packet.headers, std::span(&piece, 1), 100, source_address, false,
                                  harness->now);
  EXPECT_EQ(harness->hosts[1].qp->counters().dropped_received, 1u);
  EXPECT_FALSE(harness->pull(1).has_value());
}

}  // namespace
}  // namespace flexins::transport::test
