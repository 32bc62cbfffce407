#include <cstdlib>
#include <cstring>
#include <map>

#include <gtest/gtest.h>

#include "harness.h"

/// Random operations over a link that loses, doubles and swaps packets. FLEXINS_SEED=n replays one
/// seed; FLEXINS_SEEDS=n runs so many.

namespace flexins::transport::test {
namespace {

using base::WcStatus;
using base::WrOpcode;

/// One direction of traffic: what host `from` does to the other, and what memory must look like.
class Flow {
 public:
  Flow(Harness& harness, int from) : harness_(harness), random_(harness.random), from_(from) {
    source_ = &me().allocate(kBytes);
    remote_ = &peer().allocate(kBytes);
    inbox_ = &peer().allocate(kBytes);
    counters_ = &peer().allocate(64);
    source_->fill(random_.next());
    model_.assign(kBytes, std::byte{0});
  }

  /// Posts one random request; false when the send queue is full or memory used up.
  bool post_one();
  void check();
  [[nodiscard]] uint64_t posted() const { return posted_; }
  void post_receives_later() {
    while (!owed_.empty()) post_receive();
  }
  void post_receive() {
    if (owed_.empty()) return;
    peer().receives.post(owed_.front().first, owed_.front().second);
    owed_.erase(owed_.begin());
  }

 private:
  static constexpr size_t kBytes = 1 << 20;
  struct Read {
    size_t offset, remote, length;
  };
  Host& me() { return harness_.hosts[from_]; }
  Host& peer() { return harness_.hosts[1 - from_]; }
  std::vector<base::Sge> pieces(const Buffer& buffer, size_t offset, size_t length);
  size_t random_length();

  Harness& harness_;
  TestRandom& random_;
  int from_;
  Buffer* source_;
  Buffer* remote_;
  Buffer* inbox_;
  Buffer* counters_;
  size_t source_used_ = 0, remote_used_ = 0, inbox_used_ = 0;
  std::vector<std::byte> model_;  ///< of remote_
  std::vector<std::pair<size_t, std::vector<std::byte>>> inbox_model_;
  std::vector<std::pair<uint64_t, std::vector<base::Sge>>> owed_;
  std::vector<Read> reads_;
  std::vector<std::pair<size_t, uint64_t>> atomics_;  ///< offset of the result, expected value
  std::vector<uint64_t> signalled_;
  std::vector<uint32_t> received_lengths_;
  uint64_t counter_ = 0;
  uint64_t posted_ = 0;
};

size_t Flow::random_length() {
  switch (random_.below(5)) {
    case 0: return 0;
    case 1: return random_.below(64);
    case 2: return random_.below(3000);
    case 3: return (1 + random_.below(8)) * 1024 + random_.below(3) - 1;
    default: return random_.below(40'000);
  }
}

std::vector<base::Sge> Flow::pieces(const Buffer& buffer, size_t offset, size_t length) {
  std::vector<base::Sge> sges;
  while (length > 0 && sges.size() < 31) {
    const size_t part = random_.chance(400) ? length : random_.below(length + 1);
    sges.push_back(buffer.sge(offset, part));
    offset += part;
    length -= part;
  }
  if (length > 0) sges.push_back(buffer.sge(offset, length));
  return sges;
}

bool Flow::post_one() {
  const size_t length = random_length();
  if (source_used_ + length + 8 > kBytes || remote_used_ + length > kBytes) return false;
  if (inbox_used_ + length > kBytes) return false;
  Request request;
  const size_t from = source_used_;
  const uint64_t id = (uint64_t{static_cast<uint32_t>(from_)} << 32) + posted_;
  const auto kind = random_.below(7);
  const std::byte* data = source_->bytes.get() + from;
  if (kind <= 1) {  // SEND
    request = make_request(kind == 0 ? WrOpcode::kSend : WrOpcode::kSendWithImmediate, id,
                           pieces(*source_, from, length));
  } else if (kind <= 3) {  // WRITE
    request =
        make_request(kind == 2 ? WrOpcode::kRdmaWrite : WrOpcode::kRdmaWriteWithImmediate, id,
                     pieces(*source_, from, length), remote_->address(remote_used_), remote_->key);
  } else if (kind <= 5) {  // READ of bytes that nobody writes any more
    const size_t at = remote_used_ == 0 ? 0 : random_.below(remote_used_);
    const size_t count = std::min(length, remote_used_ - at);
    request = make_request(WrOpcode::kRdmaRead, id, pieces(*source_, from, count),
                           remote_->address(at), remote_->key);
    request.wqe.flags |= base::kSendFence;
    reads_.push_back({from, at, count});
  } else {
    request = make_request(WrOpcode::kFetchAdd, id, {source_->sge(from, 8)}, counters_->address(),
                           counters_->key);
    request.wqe.compare_add = 1 + random_.below(100);
  }
  if (kind <= 3 && length <= 512 && random_.chance(300)) {
    request.wqe.flags |= base::kSendInline;
    request.sges.clear();
    request.inline_bytes.assign(data, data + length);
  }
  if (random_.chance(300)) request.wqe.flags &= static_cast<uint8_t>(~base::kSendSignaled);
  if (random_.chance(100)) request.wqe.flags |= base::kSendFence;
  if (!harness_.post(from_, request)) {
    if (kind == 4 || kind == 5) reads_.pop_back();
    return false;
  }
  ++posted_;
  if ((request.wqe.flags & base::kSendSignaled) != 0) signalled_.push_back(id);
  if (kind == 6) {
    atomics_.emplace_back(from, counter_);
    counter_ += request.wqe.compare_add;
    source_used_ += 8;
    return true;
  }
  if (kind <= 1) {
    owed_.emplace_back(received_lengths_.size(), pieces(*inbox_, inbox_used_, length));
    inbox_model_.emplace_back(inbox_used_, std::vector<std::byte>(data, data + length));
    inbox_used_ += length;
  }
  if (kind == 2 || kind == 3) {
    std::memcpy(model_.data() + remote_used_, data, length);
    remote_used_ += length;
    if (kind == 3) owed_.emplace_back(received_lengths_.size(), std::vector<base::Sge>{});
  }
  if (kind <= 1 || kind == 3) received_lengths_.push_back(static_cast<uint32_t>(length));
  source_used_ += length;
  return true;
}

void Flow::check() {
  EXPECT_EQ(std::memcmp(model_.data(), remote_->bytes.get(), kBytes), 0) << "WRITE data";
  for (const auto& [offset, bytes] : inbox_model_) {
    if (bytes.empty()) continue;
    EXPECT_EQ(std::memcmp(inbox_->bytes.get() + offset, bytes.data(), bytes.size()), 0) << "SEND";
  }
  for (const Read& read : reads_) {
    EXPECT_EQ(
        std::memcmp(source_->bytes.get() + read.offset, model_.data() + read.remote, read.length),
        0)
        << "READ data";
  }
  uint64_t value = 0;
  for (const auto& [offset, expected] : atomics_) {
    std::memcpy(&value, source_->bytes.get() + offset, 8);
    EXPECT_EQ(value, expected) << "atomic executed twice or not at all";
  }
  std::memcpy(&value, counters_->bytes.get(), 8);
  EXPECT_EQ(value, counter_);
  const auto& done = me().sends.all;
  ASSERT_EQ(done.size(), signalled_.size());
  for (size_t i = 0; i < done.size(); ++i) {
    EXPECT_EQ(done[i].status, WcStatus::kSuccess);
    EXPECT_EQ(done[i].wr_id, signalled_[i]);
  }
  const auto& received = peer().receives_done.all;
  ASSERT_EQ(received.size(), received_lengths_.size());
  for (size_t i = 0; i < received.size(); ++i) {
    EXPECT_EQ(received[i].status, WcStatus::kSuccess);
    EXPECT_EQ(received[i].wr_id, i);
    EXPECT_EQ(received[i].byte_length, received_lengths_[i]);
    EXPECT_EQ(received[i].retired, i + 1);
  }
  EXPECT_EQ(me().qp->outstanding_sends(), 0u);
  EXPECT_EQ(me().window.in_flight_bytes, 0u);
}

Options random_options(TestRandom& random) {
  Options options;
  options.path_mtu = static_cast<uint8_t>(1 + random.below(5));
  options.psn[0] = static_cast<uint32_t>(0xffffff - random.below(300));
  options.psn[1] = static_cast<uint32_t>(random.next() & 0xffffff);
  options.max_rd_atomic = static_cast<uint8_t>(1 + random.below(8));
  options.max_dest_rd_atomic = 8;
  options.read_chunk_bytes = static_cast<uint32_t>(1024 + random.below(64 * 1024));
  options.window_bytes = random.chance(300) ? 6'000 : 128 * 1024;
  options.max_send_wr = static_cast<uint32_t>(1 + random.below(64));
  return options;
}

void soak(uint64_t seed) {
  SCOPED_TRACE("FLEXINS_SEED=" + std::to_string(seed));
  TestRandom random(seed);
  Harness harness(random_options(random), seed);
  harness.connect();
  Flow flows[2] = {Flow(harness, 0), Flow(harness, 1)};
  const uint32_t loss = static_cast<uint32_t>(random.below(4)) * 20;
  const uint32_t doubled = static_cast<uint32_t>(random.below(3)) * 20;
  harness.reorder_per_mille = static_cast<uint32_t>(random.below(3)) * 30;
  harness.fate = [&](Packet&) {
    if (random.chance(loss)) return 0;
    return random.chance(doubled) ? 2 : 1;
  };
  const bool late_receives = random.chance(300);
  for (int round = 0; round < 60; ++round) {
    for (Flow& flow : flows) {
      for (uint64_t n = random.below(6); n > 0; --n) {
        if (!flow.post_one()) break;
      }
      if (!late_receives) flow.post_receives_later();
      if (late_receives && random.chance(700)) flow.post_receive();
    }
    for (uint64_t n = random.below(4); n > 0; --n) {
      harness.collect();
      harness.carry();
    }
    if (random.chance(200)) harness.step_time();
  }
  for (Flow& flow : flows) flow.post_receives_later();
  // Ten minutes of virtual time: a stall that only more patience heals is a failure too.
  const base::TimeNs begin = harness.now;
  harness.run(begin + 600 * base::kSecond);
  EXPECT_EQ(harness.hosts[0].qp->deadline(), base::kNever);
  EXPECT_EQ(harness.hosts[1].qp->deadline(), base::kNever);
  for (Flow& flow : flows) flow.check();
  const uint64_t requests = flows[0].posted() + flows[1].posted();
  EXPECT_LT(harness.packets_pulled, 2000 * (requests + 10)) << "retransmission storm";
}

TEST(Soak, RandomOperationsOverABadLink) {
  if (const char* seed = std::getenv("FLEXINS_SEED")) return soak(std::strtoull(seed, nullptr, 0));
  const char* count = std::getenv("FLEXINS_SEEDS");
  const uint64_t seeds = count != nullptr ? std::strtoull(count, nullptr, 0) : 300;
  for (uint64_t seed = 1; seed <= seeds && !HasFailure(); ++seed) soak(seed);
}

}  // namespace
}  // namespace flexins::transport::test
