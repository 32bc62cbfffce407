#include <cstring>

#include <gtest/gtest.h>

#include "harness.h"

/// Every operation, without loss.

namespace flexins::transport::test {
namespace {

using base::WcStatus;
using base::WrOpcode;

class Sizes : public testing::TestWithParam<std::tuple<uint8_t, uint32_t>> {
 protected:
  Sizes() : mtu_code_(std::get<0>(GetParam())) {
    const uint32_t mtu = 128u << mtu_code_;
    const uint32_t kinds[] = {0,
                              1,
                              2,
                              3,
                              7,
                              8,
                              mtu - 1,
                              mtu,
                              mtu + 1,
                              2 * mtu - 1,
                              2 * mtu,
                              2 * mtu + 1,
                              5 * mtu,
                              7 * mtu + 13,
                              40 * mtu + 1,
                              300'000};
    size_ = kinds[std::get<1>(GetParam())];
    Options options;
    options.path_mtu = mtu_code_;
    harness_ = std::make_unique<Harness>(options);
    harness_->connect();
    source_ = &harness_->hosts[0].allocate(size_ + 16);
    target_ = &harness_->hosts[1].allocate(size_ + 16);
    source_->fill(1);
    target_->fill(2);
  }

  void expect_moved(const Buffer& from, const Buffer& to) {
    EXPECT_EQ(std::memcmp(from.bytes.get() + 3, to.bytes.get() + 5, size_), 0);
    Buffer untouched;
    untouched.bytes = std::make_unique<std::byte[]>(to.length);
    untouched.length = to.length;
    untouched.fill(&to == target_ ? 2 : 1);
    EXPECT_EQ(std::memcmp(untouched.bytes.get(), to.bytes.get(), 5), 0);
    EXPECT_EQ(std::memcmp(untouched.bytes.get() + 5 + size_, to.bytes.get() + 5 + size_, 11), 0);
  }
  void expect_one_send(base::WcOpcode opcode) {
    const auto& done = harness_->hosts[0].sends.all;
    ASSERT_EQ(done.size(), 1u);
    EXPECT_EQ(done[0].status, WcStatus::kSuccess);
    EXPECT_EQ(done[0].opcode, opcode);
    EXPECT_EQ(done[0].wr_id, 7u);
    EXPECT_EQ(done[0].retired, 1u);
    EXPECT_TRUE(done[0].is_send);
    EXPECT_EQ(harness_->hosts[0].qp->outstanding_sends(), 0u);
    EXPECT_EQ(harness_->hosts[0].qp->deadline(), base::kNever);
    EXPECT_EQ(harness_->hosts[0].window.in_flight_bytes, 0u);
    EXPECT_EQ(harness_->hosts[0].qp->counters().packets_retransmitted, 0u);
  }

  uint8_t mtu_code_;
  uint32_t size_ = 0;
  std::unique_ptr<Harness> harness_;
  Buffer* source_ = nullptr;
  Buffer* target_ = nullptr;
};

TEST_P(Sizes, Send) {
  harness_->hosts[1].receives.post(9, {target_->sge(5, size_)});
  ASSERT_TRUE(harness_->post(0, make_request(WrOpcode::kSend, 7, {source_->sge(3, size_)})));
  harness_->settle();
  expect_moved(*source_, *target_);
  expect_one_send(base::WcOpcode::kSend);
  ASSERT_EQ(harness_->hosts[1].receives_done.all.size(), 1u);
  const Completion& received = harness_->hosts[1].receives_done.all[0];
  EXPECT_EQ(received.wr_id, 9u);
  EXPECT_EQ(received.status, WcStatus::kSuccess);
  EXPECT_EQ(received.opcode, base::WcOpcode::kReceive);
  EXPECT_EQ(received.byte_length, size_);
  EXPECT_EQ(received.source_qpn.value, 0x100u);
  EXPECT_EQ(received.qpn.value, 0x101u);
  EXPECT_EQ(received.wc_flags, 0u);
}

TEST_P(Sizes, SendImmediateSolicited) {
  harness_->hosts[1].receives.post(9, {target_->sge(5, size_)});
  auto request = make_request(WrOpcode::kSendWithImmediate, 7, {source_->sge(3, size_)});
  request.wqe.immediate = 0x12345678;
  request.wqe.flags |= base::kSendSolicited;
  ASSERT_TRUE(harness_->post(0, request));
  harness_->settle();
  expect_moved(*source_, *target_);
  expect_one_send(base::WcOpcode::kSend);
  ASSERT_EQ(harness_->hosts[1].receives_done.all.size(), 1u);
  const Completion& received = harness_->hosts[1].receives_done.all[0];
  EXPECT_EQ(received.immediate, 0x12345678u);
  EXPECT_EQ(received.wc_flags, base::kWcWithImmediate);
  EXPECT_TRUE(received.solicited);
}

TEST_P(Sizes, Write) {
  ASSERT_TRUE(harness_->post(0, make_request(WrOpcode::kRdmaWrite, 7, {source_->sge(3, size_)},
                                             target_->address(5), target_->key)));
  harness_->settle();
  expect_moved(*source_, *target_);
  expect_one_send(base::WcOpcode::kRdmaWrite);
  EXPECT_TRUE(harness_->hosts[1].receives_done.all.empty());
}

TEST_P(Sizes, WriteImmediate) {
  harness_->hosts[1].receives.post(9, {});
  auto request = make_request(WrOpcode::kRdmaWriteWithImmediate, 7, {source_->sge(3, size_)},
                              target_->address(5), target_->key);
  request.wqe.immediate = 0xabcd;
  ASSERT_TRUE(harness_->post(0, request));
  harness_->settle();
  expect_moved(*source_, *target_);
  expect_one_send(base::WcOpcode::kRdmaWrite);
  ASSERT_EQ(harness_->hosts[1].receives_done.all.size(), 1u);
  const Completion& received = harness_->hosts[1].receives_done.all[0];
  EXPECT_EQ(received.opcode, base::WcOpcode::kReceiveRdmaWithImmediate);
  EXPECT_EQ(received.byte_length, size_);
  EXPECT_EQ(received.immediate, 0xabcdu);
}

TEST_P(Sizes, Read) {
  ASSERT_TRUE(harness_->post(0, make_request(WrOpcode::kRdmaRead, 7, {source_->sge(5, size_)},
                                             target_->address(3), target_->key)));
  harness_->settle();
  expect_moved(*target_, *source_);
  expect_one_send(base::WcOpcode::kRdmaRead);
  EXPECT_EQ(harness_->hosts[0].sends.all[0].byte_length, size_);
}

INSTANTIATE_TEST_SUITE_P(All, Sizes,
                         testing::Combine(testing::Values<uint8_t>(1, 3, 5),
                                          testing::Range(0u, 16u)));

}  // namespace
}  // namespace flexins::transport::test
