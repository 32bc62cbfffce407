#include "port/shm_port.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <random>

#include "base/fault_guard.h"
#include "base/unique_fd.h"
#include "support.h"

namespace flexins::port::testing {
namespace {

const wire::Path kPath{.source = loopback(0), .destination = loopback(1)};

/// A ring whose ends a test holds.
struct Ring {
  std::unique_ptr<ShmRingLayout> memory = std::make_unique<ShmRingLayout>();
  ShmSender sender{*memory};
  ShmReceiver receiver{*memory};
};

std::vector<Arrived> take_all(ShmReceiver& receiver) {
  std::vector<Arrived> all;
  wire::RxPacket burst[ShmReceiver::kBurst];
  while (const size_t n = receiver.receive(burst)) {
    for (size_t i = 0; i < n; ++i) all.push_back(copy(burst[i]));
  }
  return all;
}

TEST(ShmRing, GoesRoundManyTimes) {
  Ring ring;
  std::mt19937 random(1);
  uint32_t sent = 0;
  uint32_t received = 0;
  std::vector<uint32_t> lengths;
  for (int round = 0; round < 200; ++round) {
    Burst burst(kPath);
    for (int i = 0; i < 40; ++i) {
      lengths.push_back(random() % 2 == 0 ? 4096 : random() % 4097);
      burst.add(sent++, lengths.back());
    }
    for (const wire::TxPacket& packet : burst.span()) {
      ASSERT_EQ(ring.sender.write(packet), ShmSender::Written::kDone);
    }
    EXPECT_FALSE(ring.sender.publish());
    for (const Arrived& one : take_all(ring.receiver)) {
      EXPECT_EQ(one.psn, received);
      EXPECT_TRUE(one.has_pattern(lengths[received]));
      ++received;
    }
    EXPECT_EQ(received, sent);
  }
  EXPECT_FALSE(ring.sender.broken() || ring.receiver.broken());
}

TEST(ShmRing, HoldsWhatFitsAndSaysWhenItIsFull) {
  Ring ring;
  Burst burst(kPath);
  const wire::TxPacket& packet = burst.add(0, 4096);
  size_t held = 0;
  while (ring.sender.write(packet) == ShmSender::Written::kDone) ++held;
  EXPECT_EQ(ring.sender.write(packet), ShmSender::Written::kFull);
  EXPECT_GT(held, 200u);
  EXPECT_FALSE(ring.sender.publish());
  EXPECT_EQ(take_all(ring.receiver).size(), held);
  EXPECT_EQ(ring.sender.write(packet), ShmSender::Written::kDone);
}

TEST(ShmRing, KeepsWhatWasHandedOutUntilTheNextCall) {
  Ring ring;
  Burst burst(kPath);
  const wire::TxPacket& packet = burst.add(7, 4096);
  while (ring.sender.write(packet) == ShmSender::Written::kDone) {
  }
  EXPECT_FALSE(ring.sender.publish());
  wire::RxPacket out[8];
  ASSERT_EQ(ring.receiver.receive(out), 8u);
  EXPECT_EQ(ring.sender.write(packet), ShmSender::Written::kFull);
  EXPECT_TRUE(copy(out[0]).has_pattern(4096));
  ASSERT_EQ(ring.receiver.receive(out), 8u);
  EXPECT_EQ(ring.sender.write(packet), ShmSender::Written::kDone);
}

TEST(ShmRing, AsksToWakeWhoSleepsOncePerNews) {
  Ring ring;
  Burst burst(kPath);
  const wire::TxPacket& packet = burst.add(0, 8);
  ring.receiver.need_wakeup().store(1);
  ASSERT_EQ(ring.sender.write(packet), ShmSender::Written::kDone);
  EXPECT_TRUE(ring.sender.publish());
  EXPECT_FALSE(ring.sender.publish()) << "nothing new";
}

TEST(ShmRing, AnOverdrawnReadingPositionBreaksIt) {
  for (const uint64_t lie : {uint64_t{64}, ~uint64_t{0}}) {
    Ring ring;
    ring.memory->read.store(lie);
    Burst burst(kPath);
    const wire::TxPacket& packet = burst.add(0, 4096);
    auto written = ShmSender::Written::kDone;
    // Nobody looks at it before there is no room by what is known.
    for (int i = 0; i < 1000 && written == ShmSender::Written::kDone; ++i) {
      written = ring.sender.write(packet);
    }
    EXPECT_EQ(written, lie == 64 ? ShmSender::Written::kFull : ShmSender::Written::kBroken);
  }
}

TEST(ShmRing, ImpossibleWritingPositionsBreakIt) {
  for (const uint64_t lie : {uint64_t{1}, uint64_t{kShmDataBytes + 64}, ~uint64_t{0} - 63}) {
    Ring ring;
    ring.memory->written.store(lie);
    wire::RxPacket out[4];
    EXPECT_EQ(ring.receiver.receive(out), 0u);
    EXPECT_TRUE(ring.receiver.broken());
  }
}

TEST(ShmRing, ImpossibleRecordsBreakIt) {
  const ShmRecord impossible[] = {
      {.payload_length = 0,
       .header_length = 11,
       .source_port = 0,
       .traffic_class = 0,
       .hop_limit = 0,
       .reserved = {}},
      {.payload_length = 0,
       .header_length = 65,
       .source_port = 0,
       .traffic_class = 0,
       .hop_limit = 0,
       .reserved = {}},
      {.payload_length = 4097,
       .header_length = 12,
       .source_port = 0,
       .traffic_class = 0,
       .hop_limit = 0,
       .reserved = {}},
      {.payload_length = ~0u,
       .header_length = 12,
       .source_port = 0,
       .traffic_class = 0,
       .hop_limit = 0,
       .reserved = {}},
      {.payload_length = 100,
       .header_length = 12,
       .source_port = 0,
       .traffic_class = 0,
       .hop_limit = 0,
       .reserved = {}},  // longer than what is said to be written
      {.payload_length = 0,
       .header_length = 0,
       .source_port = 0,
       .traffic_class = 0,
       .hop_limit = 0,
       .reserved = {}},  // padding beyond what is said to be written
  };
  for (const ShmRecord& record : impossible) {
    Ring ring;
    std::memcpy(ring.memory->data, &record, sizeof record);
    ring.memory->written.store(64);
    wire::RxPacket out[4];
    EXPECT_EQ(ring.receiver.receive(out), 0u);
    EXPECT_TRUE(ring.receiver.broken()) << record.header_length << " " << record.payload_length;
  }
}

TEST(ShmRing, AnyBytesAreEitherAPacketOrTheEnd) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 2000; ++round) {
    Ring ring;
    for (size_t at = 0; at + 8 <= 4096; at += 8) {
      // Heads that are often possible: short lengths are likelier than others.
      const uint64_t bytes = random() & (round % 2 == 0 ? 0x001f'0fff : ~uint64_t{0});
      std::memcpy(ring.memory->data + at, &bytes, sizeof bytes);
    }
    ring.memory->written.store(random() % 65 * 64);
    wire::RxPacket out[ShmReceiver::kBurst];
    const size_t n = ring.receiver.receive(out);
    for (size_t i = 0; i < n; ++i) {
      EXPECT_LE(out[i].length, wire::kMaxHeaderBytes);
      for (const iovec& piece : wire::pieces_of(out[i])) {
        const auto* begin = static_cast<const std::byte*>(piece.iov_base);
        EXPECT_GE(begin, ring.memory->data);
        EXPECT_LE(begin + piece.iov_len, ring.memory->data + kShmDataBytes);
      }
    }
  }
}

/// Two ports with a way through memory, and UDP beside it.
class ShmPortTest : public ::testing::Test {
 protected:
  void SetUp() override {
    base::install_fault_guard();
    for (int i = 0; i < 2; ++i) {
      UdpPortConfig config;
      config.addresses = {loopback(i)};
      auto port = UdpPort::open(config);
      ASSERT_TRUE(port.ok()) << port.error().message;
      inner_[i] = std::move(*port);
      ports_[i] = std::make_unique<ShmPort>(*inner_[i]);
    }
    event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  }
  ShmWay way(int side) {
    return {.local = loopback(side),
            .remote = loopback(1 - side),
            .outgoing = &rings_[side],
            .incoming = &rings_[1 - side],
            .wake_fd = event_.get()};
  }
  void connect() {
    ASSERT_TRUE(ports_[0]->add(way(0)).ok());
    ASSERT_TRUE(ports_[1]->add(way(1)).ok());
  }

  std::vector<ShmRingLayout> rings_ = std::vector<ShmRingLayout>(2);
  base::UniqueFd event_;
  std::unique_ptr<Port> inner_[2];
  std::unique_ptr<ShmPort> ports_[2];
};

TEST_F(ShmPortTest, TakesTheWayOnlyWhereThereIsOne) {
  Burst burst(kPath);
  for (uint32_t psn = 0; psn < 10; ++psn) burst.add(psn, 1000);
  EXPECT_EQ(exchange(*ports_[0], *ports_[1], burst.span(), 10).size(), 10u);
  EXPECT_EQ(count(*ports_[0], "shm_packets_sent"), 0u);
  connect();
  EXPECT_EQ(exchange(*ports_[0], *ports_[1], burst.span(), 10).size(), 10u);
  EXPECT_EQ(count(*ports_[0], "shm_packets_sent"), 10u);
  EXPECT_EQ(count(*ports_[1], "shm_packets_received"), 10u);
  ports_[0]->remove(loopback(0), loopback(1));
  ports_[1]->remove(loopback(1), loopback(0));
  EXPECT_EQ(exchange(*ports_[0], *ports_[1], burst.span(), 10).size(), 10u);
  EXPECT_EQ(count(*ports_[0], "shm_packets_sent"), 10u);
}

TEST_F(ShmPortTest, MixedBurstsKeepTheOrderOfEachWay) {
  connect();
  // To itself there is no way.
  Burst near(kPath);
  Burst far({.source = loopback(0), .destination = loopback(0)});
  for (uint32_t psn = 0; psn < 6; ++psn) near.add(psn, 100);
  for (uint32_t psn = 0; psn < 6; ++psn) far.add(psn, 100);
  std::vector<wire::TxPacket> mixed;
  for (size_t i = 0; i < 6; ++i) {
    mixed.push_back(near.span()[i]);
    mixed.push_back(far.span()[i]);
  }
  EXPECT_EQ(ports_[0]->transmit(mixed, 0), 12u);
  for (Port* port : {static_cast<Port*>(ports_[1].get()), static_cast<Port*>(ports_[0].get())}) {
    const auto arrived = receive_all(*port, 6);
    ASSERT_EQ(arrived.size(), 6u);
    for (uint32_t psn = 0; psn < 6; ++psn) EXPECT_EQ(arrived[psn].psn, psn);
  }
}

TEST_F(ShmPortTest, TakesWhatFitsAndTheRestLater) {
  connect();
  Burst burst(kPath);
  for (uint32_t psn = 0; psn < 600; ++psn) burst.add(psn, 4096);
  const size_t taken = ports_[0]->transmit(burst.span(), 0);
  EXPECT_LT(taken, 600u);
  EXPECT_EQ(receive_all(*ports_[1], taken).size(), taken);
  EXPECT_GT(ports_[0]->transmit(burst.span().subspan(taken), 0), 0u);
}

TEST_F(ShmPortTest, WakesANeighbourThatSleeps) {
  connect();
  rings_[0].need_wakeup.store(1);
  Burst burst(kPath);
  burst.add(0, 8);
  EXPECT_EQ(ports_[0]->transmit(burst.span(), 0), 1u);
  uint64_t told = 0;
  EXPECT_EQ(::read(event_.get(), &told, sizeof told), static_cast<ssize_t>(sizeof told));
  EXPECT_EQ(told, 1u);
}

TEST_F(ShmPortTest, ABrokenNeighbourIsLeftToTheNetwork) {
  connect();
  rings_[1].written.store(1);  // what port 0 reads
  wire::RxPacket out[4];
  EXPECT_EQ(ports_[0]->receive(out, 0), 0u);
  Burst burst(kPath);
  for (uint32_t psn = 0; psn < 5; ++psn) burst.add(psn, 100);
  EXPECT_EQ(exchange(*ports_[0], *inner_[1], burst.span(), 5).size(), 5u);
  EXPECT_EQ(count(*ports_[0], "shm_packets_sent"), 0u);
  EXPECT_EQ(count(*ports_[0], "shm_broken_ways"), 1u);
}

TEST_F(ShmPortTest, RefusesASecondWayAndTooMany) {
  connect();
  EXPECT_EQ(ports_[0]->add(way(0)).error().code, EEXIST);
  ShmWay more = way(0);
  for (size_t i = 1; i < ShmPort::kWaysMax; ++i) {
    more.remote.bytes[0] = static_cast<uint8_t>(i);
    ASSERT_TRUE(ports_[0]->add(more).ok());
  }
  more.remote.bytes[0] = 0xff;
  EXPECT_EQ(ports_[0]->add(more).error().code, ENOSPC);
}

}  // namespace
}  // namespace flexins::port::testing
