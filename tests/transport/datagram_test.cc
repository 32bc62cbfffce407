#include <gtest/gtest.h>

#include <cstring>

#include "harness.h"
#include "tests/wire/pcap.h"
#include "wire/global_route.h"
#include "wire/internet.h"

namespace flexins::transport::test {
namespace {

using base::QpState;
using base::WcStatus;
using base::WrOpcode;

constexpr uint32_t kQkey = 0x1111'1111;
constexpr uint32_t kControlledQkey = 0x8001'0000;

/// One datagram QP; the test is its port and its peers.
class Datagram : public testing::Test {
 protected:
  Datagram() {
    QpConfig config;
    config.qpn = base::Qpn{0x48};
    config.pd = base::PdId{1};
    config.type = base::QpType::kDatagram;
    config.max_send_wr = 8;
    config.max_send_sge = 4;
    config.max_inline_bytes = 512;
    config.regions = &host_.regions;
    config.send_cq = &host_.sends;
    config.receive_cq = &host_.receives_done;
    config.receives = &host_.receives;
    config.observer = &host_.observer;
    qp_ = Qp::create(config).value();
    target_.mtu_bytes = 1024;
    out_.staging = staging_;
  }

  base::Result<void> move(QpState to, uint32_t mask = 0, uint32_t sq_psn = 0) {
    base::QpAttributes a;
    a.state = to;
    a.port_number = 1;
    a.qkey = qkey_;
    a.sq_psn = sq_psn;
    return qp_->modify(a, base::kQpState | mask, 0);
  }
  void to_rts(uint32_t sq_psn = 0) {
    ASSERT_TRUE(move(QpState::kInit, base::kQpPkeyIndex | base::kQpPort | base::kQpQkey).ok());
    ASSERT_TRUE(move(QpState::kReadyToReceive).ok());
    ASSERT_TRUE(move(QpState::kReadyToSend, base::kQpSqPsn, sq_psn).ok());
  }
  bool post(uint64_t wr_id, size_t length, WrOpcode opcode = WrOpcode::kSend) {
    Request request = make_request(opcode, wr_id, {buffer_.sge(0, length)});
    request.wqe.target = &target_;
    request.wqe.remote_qpn = 0x47;
    request.wqe.remote_qkey = remote_qkey_;
    return give(request);
  }
  bool give(Request& request) {
    request.wqe.sge = request.sges.data();
    request.wqe.sge_count = static_cast<uint8_t>(request.sges.size());
    return qp_->post_send(request.wqe, 0);
  }
  TxStatus pull() { return qp_->next_packet(out_, 0); }
  wire::Headers pulled() const {
    wire::Headers headers;
    size_t length = 0;
    EXPECT_EQ(
        wire::parse({out_.header.data(), out_.header_length}, out_.payload_length, headers, length),
        wire::ParseError::kNone);
    return headers;
  }
  void deliver(size_t length, uint32_t qkey = kQkey, const wire::IpAddress& source = {}) {
    std::vector<std::byte> bytes(wire::kGlobalRouteBytes + length, std::byte{7});
    const iovec piece{bytes.data(), bytes.size()};
    wire::Headers headers;
    headers.bth.opcode = wire::Opcode::kUdSendOnly;
    headers.deth = {.qkey = qkey, .source = base::Qpn{0x99}};
    qp_->on_packet(headers, {&piece, 1}, static_cast<uint32_t>(bytes.size()), source, false, 0);
  }
  void post_receive(uint64_t wr_id, size_t length) {
    host_.receives.post(wr_id, {buffer_.sge(0, length)});
  }

  Host host_{1};
  Buffer& buffer_ = host_.allocate(8192);
  DatagramTarget target_;
  std::unique_ptr<Qp> qp_;
  wire::TxPacket out_;
  std::byte staging_[wire::kMaxMtuBytes];
  uint32_t qkey_ = kQkey;
  uint32_t remote_qkey_ = kQkey;
};

TEST_F(Datagram, CompletesWhenItHasLeft) {
  to_rts(0xff'ffff);
  ASSERT_TRUE(post(1, 100));
  ASSERT_TRUE(post(2, 0, WrOpcode::kSendWithImmediate));
  ASSERT_EQ(pull(), TxStatus::kPacket);
  EXPECT_EQ(pulled().bth.psn.value(), 0xff'ffffu);
  EXPECT_EQ(out_.payload_length, 100u);
  EXPECT_EQ(out_.path->destination, target_.path.destination);
  ASSERT_EQ(pull(), TxStatus::kPacket);
  EXPECT_EQ(pulled().bth.psn.value(), 0u);
  EXPECT_EQ(pulled().bth.opcode, wire::Opcode::kUdSendOnlyImmediate);
  EXPECT_TRUE(host_.sends.all.empty());
  EXPECT_EQ(pull(), TxStatus::kIdle);
  qp_->on_transmitted();
  ASSERT_EQ(host_.sends.all.size(), 2u);
  EXPECT_EQ(host_.sends.all[1].wr_id, 2u);
  EXPECT_EQ(host_.sends.all[1].retired, 2u);
}

TEST_F(Datagram, HighBitOfQkeyMeansItsOwn) {
  qkey_ = 0x0123'4567;
  to_rts();
  remote_qkey_ = kControlledQkey;
  ASSERT_TRUE(post(1, 4));
  remote_qkey_ = 0x0765'4321;
  ASSERT_TRUE(post(2, 4));
  ASSERT_EQ(pull(), TxStatus::kPacket);
  EXPECT_EQ(pulled().deth.qkey, 0x0123'4567u);
  ASSERT_EQ(pull(), TxStatus::kPacket);
  EXPECT_EQ(pulled().deth.qkey, 0x0765'4321u);
}

TEST_F(Datagram, FailedSendFlushesWhatFollowsAndReceivesOn) {
  to_rts();
  ASSERT_TRUE(post(1, 1024));
  ASSERT_TRUE(post(2, 1025));
  ASSERT_TRUE(post(3, 4));
  ASSERT_EQ(pull(), TxStatus::kPacket);
  EXPECT_EQ(pull(), TxStatus::kIdle);  // the first is still with the port
  EXPECT_TRUE(host_.sends.all.empty());
  qp_->on_transmitted();
  EXPECT_EQ(pull(), TxStatus::kIdle);
  ASSERT_EQ(host_.sends.all.size(), 3u);
  EXPECT_EQ(host_.sends.all[0].status, WcStatus::kSuccess);
  EXPECT_EQ(host_.sends.all[1].status, WcStatus::kLocalLength);
  EXPECT_EQ(host_.sends.all[2].status, WcStatus::kWrFlush);
  EXPECT_EQ(qp_->state(), QpState::kSendQueueError);

  ASSERT_TRUE(post(4, 4));
  ASSERT_EQ(host_.sends.all.size(), 4u);
  EXPECT_EQ(host_.sends.all[3].status, WcStatus::kWrFlush);
  post_receive(9, 100);
  deliver(60);
  ASSERT_EQ(host_.receives_done.all.size(), 1u);
  EXPECT_EQ(host_.receives_done.all[0].status, WcStatus::kSuccess);

  ASSERT_TRUE(move(QpState::kReadyToSend).ok());
  ASSERT_TRUE(post(5, 4));
  EXPECT_EQ(pull(), TxStatus::kPacket);
}

TEST_F(Datagram, RefusesWhatItCannotSend) {
  to_rts();
  ASSERT_TRUE(post(1, 8, WrOpcode::kRdmaWrite));
  EXPECT_EQ(pull(), TxStatus::kIdle);
  ASSERT_EQ(host_.sends.all.size(), 1u);
  EXPECT_EQ(host_.sends.all[0].status, WcStatus::kLocalQpOperation);

  ASSERT_TRUE(move(QpState::kReadyToSend).ok());
  Request request = make_request(WrOpcode::kSend, 2, {buffer_.sge(0, 4)});
  ASSERT_TRUE(give(request));  // no such address handle
  EXPECT_EQ(pull(), TxStatus::kIdle);
  EXPECT_EQ(host_.sends.all[1].status, WcStatus::kLocalQpOperation);

  ASSERT_TRUE(move(QpState::kReadyToSend).ok());
  request = make_request(WrOpcode::kSend, 3, {{buffer_.address(), 4, buffer_.key + 1}});
  request.wqe.target = &target_;
  ASSERT_TRUE(give(request));
  EXPECT_EQ(pull(), TxStatus::kIdle);
  EXPECT_EQ(host_.sends.all[2].status, WcStatus::kLocalProtection);
}

TEST_F(Datagram, DropsByReason) {
  post_receive(1, 200);
  deliver(10);  // in reset
  EXPECT_EQ(qp_->counters().dropped_received, 1u);
  to_rts();
  deliver(10, kQkey + 1);
  EXPECT_EQ(qp_->counters().qkey_violations, 1u);
  deliver(10);
  deliver(10);
  EXPECT_EQ(qp_->counters().no_receive_drops, 1u);
  ASSERT_EQ(host_.receives_done.all.size(), 1u);
  const Completion& done = host_.receives_done.all[0];
  EXPECT_EQ(done.byte_length, 50u);
  EXPECT_EQ(done.wc_flags, uint32_t{base::kWcGrh});
  EXPECT_EQ(done.source_qpn.value, 0x99u);

  wire::Headers reliable;
  reliable.bth.opcode = wire::Opcode::kRcSendOnly;
  qp_->on_packet(reliable, {}, 0, {}, false, 0);
  EXPECT_EQ(qp_->counters().dropped_received, 2u);
}

TEST_F(Datagram, ServiceLevelSaysWhichKindOfPacketCame) {
  to_rts();
  post_receive(1, 200);
  post_receive(2, 200);
  uint8_t v4[4] = {192, 0, 2, 1};
  uint8_t v6[16] = {0xfd};
  deliver(10, kQkey, wire::IpAddress::from_v4(v4));
  deliver(10, kQkey, wire::IpAddress::from_v6(v6));
  ASSERT_EQ(host_.receives_done.all.size(), 2u);
  EXPECT_EQ(host_.receives_done.all[0].service_level, 0xa);
  EXPECT_EQ(host_.receives_done.all[1].service_level, 0x9);
}

TEST_F(Datagram, TooSmallReceiveIsAnError) {
  to_rts();
  post_receive(1, 100);
  post_receive(2, 100);
  ASSERT_TRUE(post(7, 4));
  deliver(61);
  EXPECT_EQ(qp_->state(), QpState::kError);
  ASSERT_EQ(host_.receives_done.all.size(), 2u);
  EXPECT_EQ(host_.receives_done.all[0].status, WcStatus::kLocalLength);
  EXPECT_EQ(host_.receives_done.all[1].status, WcStatus::kWrFlush);
  ASSERT_EQ(host_.sends.all.size(), 1u);
  EXPECT_EQ(host_.sends.all[0].status, WcStatus::kWrFlush);
}

TEST_F(Datagram, DrainsItsSendQueue) {
  to_rts();
  ASSERT_TRUE(post(1, 4));
  ASSERT_TRUE(post(2, 4));
  ASSERT_EQ(pull(), TxStatus::kPacket);
  ASSERT_TRUE(move(QpState::kSendQueueDrained, base::kQpEnableSqdNotify).ok());
  EXPECT_EQ(qp_->state(), QpState::kSendQueueDrained);
  EXPECT_EQ(qp_->query().sq_draining, 1);
  EXPECT_EQ(pull(), TxStatus::kIdle);
  qp_->on_transmitted();
  EXPECT_EQ(host_.observer.events, std::vector{base::AsyncEvent::kSqDrained});
  ASSERT_TRUE(move(QpState::kReadyToSend).ok());
  EXPECT_EQ(pull(), TxStatus::kPacket);
}

/// What Soft-RoCE sent, sent by us: the same bytes.
TEST_F(Datagram, SendsWhatLinuxSends) {
  for (const char* name : {"/ud_send.pcap", "/ud_send_ipv6.pcap"}) {
    const auto frames = wire::read_pcap(std::string(FLEXINS_TEST_VECTORS) + name);
    ASSERT_EQ(frames.size(), 6u);
    bool first = true;
    for (const wire::Frame& frame : frames) {
      wire::DatagramHeaders outer;
      std::span<const std::byte> bytes;
      ASSERT_EQ(wire::parse_datagram(std::span(frame).subspan(wire::kEthernetBytes), outer, bytes),
                wire::InternetError::kNone);
      bytes = bytes.first(bytes.size() - 4);
      wire::Headers theirs;
      size_t header_length = 0;
      ASSERT_EQ(wire::parse(bytes, 0, theirs, header_length), wire::ParseError::kNone);
      if (first) {
        ASSERT_TRUE(move(QpState::kReset).ok());
        qkey_ = theirs.deth.qkey;
        to_rts(theirs.bth.psn.value());
        first = false;
      }
      const size_t length = bytes.size() - header_length - theirs.bth.pad_count;
      std::memcpy(buffer_.bytes.get(), bytes.data() + header_length, length);
      const bool immediate = theirs.bth.opcode == wire::Opcode::kUdSendOnlyImmediate;
      Request request = make_request(immediate ? WrOpcode::kSendWithImmediate : WrOpcode::kSend, 1,
                                     {buffer_.sge(0, length)});
      request.wqe.flags |= theirs.bth.solicited ? uint8_t{base::kSendSolicited} : uint8_t{0};
      request.wqe.immediate = theirs.immediate;
      request.wqe.target = &target_;
      request.wqe.remote_qpn = theirs.bth.destination.value;
      request.wqe.remote_qkey = theirs.deth.qkey;
      ASSERT_TRUE(give(request));
      ASSERT_EQ(pull(), TxStatus::kPacket);
      std::vector<std::byte> ours(out_.header.begin(), out_.header.begin() + out_.header_length);
      ours[17] = bytes[17];  // the QPN that Linux happened to have
      ours[18] = bytes[18];
      ours[19] = bytes[19];
      for (size_t i = 0; i < out_.piece_count; ++i) {
        const auto* data = static_cast<const std::byte*>(out_.pieces[i].iov_base);
        ours.insert(ours.end(), data, data + out_.pieces[i].iov_len);
      }
      ours.resize(ours.size() + out_.pad_count);
      EXPECT_EQ(ours, std::vector<std::byte>(bytes.begin(), bytes.end()));
      qp_->on_transmitted();
    }
  }
}

TEST_F(Datagram, WaitsForMemoryToSendAndKeepsTheReceiveOfALostDatagram) {
  to_rts();
  buffer_.window->unmapped = true;
  buffer_.window->busy = 1;
  ASSERT_TRUE(post(1, 100));
  EXPECT_EQ(pull(), TxStatus::kIdle);
  EXPECT_NE(qp_->deadline(), base::kNever);
  EXPECT_EQ(pull(), TxStatus::kIdle) << "not before the deadline";
  qp_->on_deadline(qp_->deadline());
  EXPECT_EQ(qp_->deadline(), base::kNever);
  EXPECT_EQ(pull(), TxStatus::kPacket);
  host_.receives.post(5, {buffer_.sge(0, 200)});
  buffer_.window->busy = 1;
  deliver(10);
  EXPECT_TRUE(host_.receives_done.all.empty());
  deliver(20);
  ASSERT_EQ(host_.receives_done.all.size(), 1u);
  EXPECT_EQ(host_.receives_done.all[0].wr_id, 5u);
  EXPECT_EQ(host_.receives_done.all[0].byte_length, wire::kGlobalRouteBytes + 20);
}

}  // namespace
}  // namespace flexins::transport::test
