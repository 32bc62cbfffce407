#include <gtest/gtest.h>

#include <cerrno>

#include "harness.h"
#include "wire/headers.h"
#include "wire/mad.h"

namespace flexins::engine::testing {
namespace {

/// What came for queue pair 1.
struct Recorded final : ManagementSink {
  bool on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
              std::span<const std::byte> mad) noexcept override {
    if (full) return false;
    last_source = source;
    last_destination = destination;
    mads.emplace_back(mad.begin(), mad.end());
    return true;
  }
  bool full = false;
  wire::IpAddress last_source;
  wire::IpAddress last_destination;
  std::vector<std::vector<std::byte>> mads;
};

wire::IpAddress at(uint8_t last) {
  const uint8_t octets[4] = {10, 0, 0, last};
  return wire::IpAddress::from_v4(octets);
}

class Management : public ::testing::Test {
 protected:
  Management() {
    network.peer = &far;
    EngineConfig config;
    config.addresses = {{at(1), "eth0", 1024}};
    config.local = &local;
    config.network = &network;
    config.random = &random;
    config.management = &sink;
    engine = Engine::create(config);
    for (size_t i = 0; i < mad.size(); ++i) mad[i] = static_cast<std::byte>(i);
  }
  uint64_t count(std::string_view name) {
    for (const port::Counter& counter : engine->info().counters) {
      if (counter.name == name) return counter.value;
    }
    ADD_FAILURE() << name;
    return 0;
  }
  /// As a peer would send it, changed by `change`.
  template <typename Change>
  void receive(size_t length, Change change) {
    wire::Headers headers;
    headers.bth.opcode = wire::Opcode::kUdSendOnly;
    headers.bth.destination = base::Qpn{wire::kManagementQpn};
    headers.deth.qkey = wire::kManagementQkey;
    change(headers);
    FlatPacket packet;
    packet.source = at(2);
    packet.destination = at(1);
    packet.bytes.resize(wire::header_bytes(headers.bth.opcode) + length);
    wire::emit(headers, packet.bytes);
    network.inbox.push_back(std::move(packet));
    engine->step(now);
  }

  base::TimeNs now = base::kSecond;
  QueuePort local;
  QueuePort network;
  QueuePort far;
  SeededRandom random{1};
  Recorded sink;
  std::unique_ptr<Engine> engine;
  std::array<std::byte, wire::kMadBytes> mad;
};

TEST_F(Management, GoesOutAsADatagramOfQueuePairOne) {
  wire::Path path;
  path.source = at(1);
  path.destination = at(2);
  ASSERT_TRUE(engine->send_mad(path, mad, now).ok());
  ASSERT_TRUE(engine->send_mad(path, mad, now).ok());
  ASSERT_EQ(far.inbox.size(), 2U);
  const FlatPacket& packet = far.inbox.back();
  wire::Headers headers;
  size_t header_length = 0;
  ASSERT_EQ(wire::parse(packet.bytes, 0, headers, header_length), wire::ParseError::kNone);
  EXPECT_EQ(headers.bth.opcode, wire::Opcode::kUdSendOnly);
  EXPECT_EQ(headers.bth.destination.value, 1U);
  EXPECT_EQ(headers.bth.psn.value(), 1U);
  EXPECT_EQ(headers.deth.qkey, 0x80010000U);
  EXPECT_EQ(headers.deth.source.value, 1U);
  EXPECT_EQ(packet.bytes.size(), header_length + wire::kMadBytes);
  EXPECT_EQ(packet.bytes.back(), mad.back());
  EXPECT_EQ(count("mads_sent"), 2U);
}

TEST_F(Management, ToOurselves) {
  wire::Path path;
  path.source = path.destination = at(1);
  ASSERT_TRUE(engine->send_mad(path, mad, now).ok());
  ASSERT_EQ(sink.mads.size(), 1U);
  EXPECT_TRUE(std::equal(mad.begin(), mad.end(), sink.mads[0].begin()));
  EXPECT_EQ(sink.last_source, at(1));
}

TEST_F(Management, FromAForeignAddressOrWithAFullPort) {
  wire::Path path;
  path.source = at(9);
  path.destination = at(2);
  EXPECT_EQ(engine->send_mad(path, mad, now).error().code, EADDRNOTAVAIL);
  path.source = at(1);
  network.accept_at_most = 0;
  EXPECT_EQ(engine->send_mad(path, mad, now).error().code, EAGAIN);
  EXPECT_EQ(count("drop_mad_port_full"), 1U);
}

TEST_F(Management, ComesInWithItsAddresses) {
  receive(wire::kMadBytes, [](wire::Headers&) {});
  ASSERT_EQ(sink.mads.size(), 1U);
  EXPECT_EQ(sink.last_source, at(2));
  EXPECT_EQ(sink.last_destination, at(1));
  EXPECT_EQ(count("mads_received"), 1U);
}

TEST_F(Management, WhatIsWrongIsCountedByReason) {
  receive(wire::kMadBytes, [](wire::Headers& h) { h.deth.qkey = 1; });
  EXPECT_EQ(count("drop_mad_qkey"), 1U);
  receive(wire::kMadBytes - 1, [](wire::Headers&) {});
  receive(wire::kMadBytes + 1, [](wire::Headers&) {});
  receive(wire::kMadBytes, [](wire::Headers& h) { h.bth.pad_count = 1; });
  receive(0, [](wire::Headers&) {});
  EXPECT_EQ(count("drop_mad_length"), 4U);
  receive(wire::kMadBytes, [](wire::Headers& h) { h.bth.opcode = wire::Opcode::kRcSendOnly; });
  EXPECT_EQ(count("drop_mad_opcode"), 1U);
  sink.full = true;
  receive(wire::kMadBytes, [](wire::Headers&) {});
  EXPECT_EQ(count("drop_mad_refused"), 1U);
  EXPECT_TRUE(sink.mads.empty());
}

}  // namespace
}  // namespace flexins::engine::testing
