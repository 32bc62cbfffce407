#include <cstring>

#include <gtest/gtest.h>

#include "harness.h"

/// Acknowledgements, the peer's window, READ and fence limits, very long messages.

namespace flexins::transport::test {
namespace {

using base::WcStatus;
using base::WrOpcode;
using wire::Opcode;

struct Flow : testing::Test {
  void connect(const Options& options = {}) {
    harness = std::make_unique<Harness>(options);
    harness->connect();
    source = &harness->hosts[0].allocate(400'000);
    target = &harness->hosts[1].allocate(400'000);
    source->fill(1);
  }
  Request operation(WrOpcode opcode, uint64_t id, size_t length) {
    return make_request(opcode, id, {source->sge(0, length)}, target->address(), target->key);
  }
  std::unique_ptr<Harness> harness;
  Buffer* source = nullptr;
  Buffer* target = nullptr;
};

TEST_F(Flow, OneAckForATrain) {
  connect();
  for (uint64_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, i, 64)));
  }
  harness->settle();
  EXPECT_EQ(harness->hosts[0].sends.all.size(), 10u);
  EXPECT_EQ(harness->sent(1, Opcode::kRcAcknowledge), 1u);
  EXPECT_EQ(harness->hosts[1].qp->counters().packets_received, 10u);
}

TEST_F(Flow, LongChainsAskEverySixteenth) {
  Options options;
  options.max_send_wr = 256;
  connect(options);
  int asked = 0;
  harness->fate = [&](Packet& p) {
    asked += p.from == 0 && p.headers.bth.ack_request ? 1 : 0;
    return 1;
  };
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, i, 8)));
  }
  harness->settle();
  EXPECT_EQ(asked, 7);  // 6 · 16, and the last
  EXPECT_EQ(harness->hosts[0].sends.all.size(), 100u);
}

TEST_F(Flow, UnsignalledAreRetiredByALaterCompletion) {
  connect();
  for (uint64_t i = 0; i < 6; ++i) {
    Request request = operation(WrOpcode::kRdmaWrite, i, 8);
    if (i != 3) request.wqe.flags = 0;
    ASSERT_TRUE(harness->post(0, request));
  }
  harness->settle();
  ASSERT_EQ(harness->hosts[0].sends.all.size(), 1u);
  EXPECT_EQ(harness->hosts[0].sends.all[0].wr_id, 3u);
  EXPECT_EQ(harness->hosts[0].sends.all[0].retired, 4u);
  EXPECT_EQ(harness->hosts[0].qp->outstanding_sends(), 0u);
}

TEST_F(Flow, WindowIsKeptAndAsksBeforeItBlocks) {
  Options options;
  options.window_bytes = 8 * 1024;
  connect(options);
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 100'000)));
  TxStatus status = TxStatus::kPacket;
  int packets = 0;
  bool asked = false;
  while (auto packet = harness->pull(0, &status)) {
    ++packets;
    asked = packet->headers.bth.ack_request;
    harness->link.push_back(*packet);
    EXPECT_LE(harness->hosts[0].window.in_flight_bytes, 8u * 1024);
  }
  EXPECT_EQ(status, TxStatus::kBlockedOnPeer);
  EXPECT_EQ(packets, 4) << "each is charged 768 bytes beyond its 1024";
  EXPECT_TRUE(asked);
  harness->settle();
  EXPECT_EQ(harness->hosts[0].sends.all.size(), 1u);
  EXPECT_EQ(harness->hosts[0].window.in_flight_bytes, 0u);
  EXPECT_EQ(harness->hosts[0].qp->counters().packets_retransmitted, 0u);
}

TEST_F(Flow, APacketLargerThanTheWindowStillGoesAlone) {
  Options options;
  options.window_bytes = 100;
  connect(options);
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 10'000)));
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaRead, 2, 10'000)));
  harness->run();
  EXPECT_EQ(harness->hosts[0].sends.all.size(), 2u);
  EXPECT_EQ(harness->hosts[0].qp->counters().timeouts, 0u);
}

TEST_F(Flow, BlockedByOthersItAsksForWhatItHasInFlight) {
  Options options;
  options.timeout = 0;  // no timer would help
  connect(options);
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 100)));
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 2, 100)));
  auto first = harness->pull(0);
  ASSERT_FALSE(first->headers.bth.ack_request);
  harness->deliver(*first);
  harness->hosts[0].window.in_flight_bytes += 128 * 1024;  // another QP fills the window
  auto again = harness->pull(0);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->headers.bth.psn, first->headers.bth.psn);
  EXPECT_TRUE(again->headers.bth.ack_request);
  harness->deliver(*again);
  TxStatus status = TxStatus::kPacket;
  EXPECT_FALSE(harness->pull(0, &status).has_value());
  EXPECT_EQ(status, TxStatus::kBlockedOnPeer) << "asked once";
  harness->settle();
  EXPECT_EQ(harness->hosts[0].sends.all.size(), 1u);
  harness->hosts[0].window.in_flight_bytes -= 128 * 1024;
  harness->settle();
  EXPECT_EQ(harness->hosts[0].sends.all.size(), 2u);
}

TEST_F(Flow, WindowFollowsANewPeer) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 5000)));
  ASSERT_TRUE(harness->collect());
  PeerWindow other;
  const uint64_t bytes = harness->hosts[0].window.in_flight_bytes;
  EXPECT_GT(bytes, 5000u);
  harness->hosts[0].qp->set_path(&harness->hosts[0].path, &other);
  EXPECT_EQ(harness->hosts[0].window.in_flight_bytes, 0u);
  EXPECT_EQ(other.in_flight_bytes, bytes);
  harness->settle();
  EXPECT_EQ(other.in_flight_bytes, 0u);
  harness->hosts[0].qp->set_path(&harness->hosts[0].path, &harness->hosts[0].window);
}

TEST_F(Flow, ReadsAreLimitedToTheInitiatorDepth) {
  Options options;
  options.max_rd_atomic = 2;
  options.read_chunk_bytes = 4096;
  connect(options);
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaRead, 1, 20 * 1024)));
  int requests = 0;
  while (auto packet = harness->pull(0)) {
    ++requests;
    EXPECT_EQ(packet->headers.reth.length, 4096u);
    harness->link.push_back(*packet);
  }
  EXPECT_EQ(requests, 2);
  harness->settle();
  EXPECT_EQ(harness->sent(0, Opcode::kRcReadRequest) + 2, 5u);
  EXPECT_EQ(harness->hosts[0].sends.all.size(), 1u);
}

TEST_F(Flow, FenceWaitsForReads) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaRead, 1, 100)));
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 2, 100)));
  Request fenced = operation(WrOpcode::kRdmaWrite, 3, 100);
  fenced.wqe.flags |= base::kSendFence;
  ASSERT_TRUE(harness->post(0, fenced));
  ASSERT_TRUE(harness->pull(0).has_value());
  ASSERT_TRUE(harness->pull(0).has_value());
  EXPECT_FALSE(harness->pull(0).has_value());
  harness->run();
  EXPECT_EQ(harness->hosts[0].sends.all.size(), 3u);
}

TEST_F(Flow, AckDoesNotOvertakeReadResponses) {
  connect();
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 1, 100)));
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaRead, 2, 3000)));
  ASSERT_TRUE(harness->post(0, operation(WrOpcode::kRdmaWrite, 3, 100)));
  while (auto packet = harness->pull(0)) {
    packet->headers.bth.ack_request = true;
    harness->deliver(*packet);
  }
  std::vector<Opcode> answers;
  while (auto packet = harness->pull(1)) answers.push_back(packet->headers.bth.opcode);
  EXPECT_EQ(answers,
            (std::vector<Opcode>{Opcode::kRcReadResponseFirst, Opcode::kRcReadResponseMiddle,
                                 Opcode::kRcReadResponseLast, Opcode::kRcAcknowledge}));
  harness->options = {};
}

TEST_F(Flow, GatherAndScatterOverManyElements) {
  for (bool unmapped : {false, true}) {
    for (uint64_t extent : {UINT64_MAX, uint64_t{4096}, uint64_t{64}}) {
      connect();
      source->window->unmapped = target->window->unmapped = unmapped;
      source->window->extent_bytes = target->window->extent_bytes = extent;
      std::vector<base::Sge> from;
      std::vector<base::Sge> to;
      for (size_t i = 0; i < 32; ++i) {
        from.push_back(source->sge(i * 1000, 1 + i * 31));
        to.push_back(target->sge((31 - i) * 1000, 1 + (31 - i) * 31));
      }
      harness->hosts[1].receives.post(1, to);
      Request request = make_request(WrOpcode::kSend, 1, from);
      ASSERT_TRUE(harness->post(0, request));
      harness->settle();
      ASSERT_EQ(harness->hosts[0].sends.all.size(), 1u);
      ASSERT_EQ(harness->hosts[0].sends.all[0].status, WcStatus::kSuccess);
      std::string sent;
      std::string received;
      const auto join = [](const std::vector<base::Sge>& sges, std::string& into) {
        for (const base::Sge& s : sges) {
          into.append(reinterpret_cast<const char*>(s.address), s.length);
        }
      };
      join(from, sent);
      join(to, received);
      EXPECT_EQ(sent, received);
      if (!unmapped && extent == UINT64_MAX) {
        EXPECT_EQ(harness->hosts[0].qp->counters().payload_bytes_staged, 0u);
      }
    }
  }
}

TEST_F(Flow, InlineBytesAreTakenAtPosting) {
  connect();
  Request request = operation(WrOpcode::kRdmaWrite, 1, 0);
  request.sges.clear();
  request.wqe.flags |= base::kSendInline;
  request.inline_bytes.assign(512, std::byte{0x5a});
  ASSERT_TRUE(harness->post(0, request));
  request.inline_bytes.assign(512, std::byte{0});
  harness->settle();
  EXPECT_EQ(target->bytes[0], std::byte{0x5a});
  EXPECT_EQ(target->bytes[511], std::byte{0x5a});
}

/// A window as large as one likes that stores nothing.
class BottomlessWindow final : public memory::Window {
 public:
  memory::Extent resolve(uint64_t address, uint64_t length) noexcept override {
    highest = std::max(highest, address + length);
    return {nullptr, length};
  }
  memory::AccessResult read(uint64_t, std::span<std::byte>) noexcept override {
    return memory::AccessResult::kDone;
  }
  memory::AccessResult write(uint64_t, std::span<const std::byte>) noexcept override {
    return memory::AccessResult::kDone;
  }
  [[nodiscard]] memory::WindowKind kind() const noexcept override {
    return memory::WindowKind::kDirect;
  }
  [[nodiscard]] bool needs_guard() const noexcept override { return false; }
  uint64_t highest = 0;
};

TEST_F(Flow, TwoGibibytes) {
  for (WrOpcode opcode : {WrOpcode::kRdmaRead, WrOpcode::kSend}) {
    Options options;
    options.path_mtu = 5;
    options.psn[0] = 0xffff00;
    connect(options);
    constexpr uint32_t kLength = 1u << 31;
    base::Sge sges[2];
    BottomlessWindow* windows[2];
    for (int i = 0; i < 2; ++i) {
      auto view = std::make_unique<BottomlessWindow>();
      windows[i] = view.get();
      memory::Region region;
      region.pd = {1};
      region.address = region.window_base = 1 << 20;
      region.length = kLength;
      region.access = kAllAccess;
      region.window = std::move(view);
      const auto key = harness->hosts[i].regions.insert(std::move(region)).value();
      sges[i] = {1 << 20, kLength, key.value};
    }
    harness->hosts[1].receives.post(1, {sges[1]});
    ASSERT_TRUE(harness->post(0, make_request(opcode, 1, {sges[0]}, 1 << 20, sges[1].key)));
    harness->settle();
    ASSERT_EQ(harness->hosts[0].sends.all.size(), 1u);
    EXPECT_EQ(harness->hosts[0].sends.all[0].status, WcStatus::kSuccess);
    EXPECT_EQ(windows[0]->highest, (1u << 20) + uint64_t{kLength});
    EXPECT_EQ(windows[1]->highest, (1u << 20) + uint64_t{kLength});
    const auto& bytes = harness->hosts[opcode == WrOpcode::kRdmaRead ? 0 : 1].qp->counters();
    EXPECT_EQ(bytes.payload_bytes_received, kLength);
    if (opcode == WrOpcode::kSend) {
      EXPECT_EQ(harness->hosts[1].receives_done.all.at(0).byte_length, kLength);
    }
  }
}

}  // namespace
}  // namespace flexins::transport::test
