#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "pipe/completion_ring.h"
#include "pipe/receive_ring.h"
#include "pipe/submission_ring.h"
#include "port/port.h"

/// Engines with their applications in one thread: rings on the heap, windows straight into the
/// test's memory, ports that are queues.

namespace flexins::engine::testing {

class DirectWindow final : public memory::Window {
 public:
  memory::Extent resolve(uint64_t address, uint64_t length) noexcept override {
    return {reinterpret_cast<std::byte*>(address), length};
  }
  memory::AccessResult read(uint64_t address, std::span<std::byte> out) noexcept override {
    std::memcpy(out.data(), reinterpret_cast<void*>(address), out.size());
    return memory::AccessResult::kDone;
  }
  memory::AccessResult write(uint64_t address, std::span<const std::byte> in) noexcept override {
    std::memcpy(reinterpret_cast<void*>(address), in.data(), in.size());
    return memory::AccessResult::kDone;
  }
  [[nodiscard]] memory::WindowKind kind() const noexcept override {
    return memory::WindowKind::kDirect;
  }
  [[nodiscard]] bool needs_guard() const noexcept override { return false; }
};

/// A packet that owns its bytes.
struct FlatPacket {
  std::vector<std::byte> bytes;
  wire::IpAddress source;
  wire::IpAddress destination;
};

inline FlatPacket flatten(const wire::TxPacket& packet) {
  FlatPacket flat;
  flat.source = packet.path->source;
  flat.destination = packet.path->destination;
  flat.bytes.assign(packet.header.begin(), packet.header.begin() + packet.header_length);
  for (size_t i = 0; i < packet.piece_count; ++i) {
    const auto* data = static_cast<const std::byte*>(packet.pieces[i].iov_base);
    flat.bytes.insert(flat.bytes.end(), data, data + packet.pieces[i].iov_len);
  }
  flat.bytes.resize(flat.bytes.size() + packet.pad_count);
  return flat;
}

/// One end of a wire; `peer` null: packets come back to ourselves.
class QueuePort final : public port::Port {
 public:
  QueuePort* peer = nullptr;
  std::deque<FlatPacket> inbox;
  size_t accept_at_most = SIZE_MAX;
  uint64_t transmitted = 0;
  std::vector<wire::IpAddress> joined;
  bool started = false;
  bool forbidden = false;  ///< listen() fails
  bool echo = false;       ///< what is sent comes back as well

  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs) noexcept override {
    const size_t count = std::min(burst.size(), accept_at_most);
    for (size_t i = 0; i < count; ++i) {
      if (echo) inbox.push_back(flatten(burst[i]));
      (peer != nullptr ? peer : this)->inbox.push_back(flatten(burst[i]));
    }
    transmitted += count;
    return count;
  }
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs) noexcept override {
    held_.clear();
    while (!inbox.empty() && held_.size() < burst.size()) {
      held_.push_back(std::move(inbox.front()));
      inbox.pop_front();
    }
    for (size_t i = 0; i < held_.size(); ++i) {
      burst[i] = wire::RxPacket{};
      burst[i].bytes = held_[i].bytes.data();
      burst[i].length = static_cast<uint32_t>(held_[i].bytes.size());
      burst[i].source = held_[i].source;
      burst[i].destination = held_[i].destination;
    }
    return held_.size();
  }
  base::Result<void> listen() override {
    if (forbidden) return base::Error{EPERM, "not allowed"};
    started = true;
    return {};
  }
  void stop_listening() override { started = false; }
  base::Result<void> join(const wire::IpAddress& group) override {
    joined.push_back(group);
    return {};
  }
  void leave(const wire::IpAddress& group) override { std::erase(joined, group); }
  [[nodiscard]] port::Capabilities capabilities() const override { return {4200, 1 << 20}; }
  [[nodiscard]] std::vector<port::Counter> counters() const override { return {}; }
  [[nodiscard]] std::string_view name() const override { return "queue"; }

 private:
  std::vector<FlatPacket> held_;
};

/// Zeroed, 64-byte aligned memory of a ring.
class Ring {
 public:
  explicit Ring(size_t bytes)
      : bytes_(bytes),
        memory_(static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 63) & ~63ul))) {
    std::memset(memory_.get(), 0, bytes);
  }
  [[nodiscard]] RingMemory get() const { return {memory_.get(), bytes_}; }
  [[nodiscard]] std::byte* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  size_t bytes_;
  std::unique_ptr<std::byte, Free> memory_;
};

class SeededRandom final : public base::RandomSource {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed) {}
  uint64_t next() noexcept override {
    // splitmix64: good enough to be different every time.
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

struct RecordedEvents final : EventSink {
  std::vector<std::pair<uint32_t, uint64_t>> completions;
  std::vector<std::pair<uint64_t, base::AsyncEvent>> async;
  bool full = false;                    ///< drops what comes
  std::map<uint64_t, uint32_t> unread;  ///< by cookie; both kinds
  bool completion_event(base::ChannelId channel, uint64_t cookie) noexcept override {
    if (!full) completions.emplace_back(channel.value, cookie);
    return !full;
  }
  bool async_event(uint64_t cookie, base::AsyncEvent event) noexcept override {
    if (!full) async.emplace_back(cookie, event);
    return !full;
  }
  uint32_t withdraw_completion_events(base::ChannelId, uint64_t cookie) noexcept override {
    return unread[cookie];
  }
  uint32_t withdraw_async_events(uint64_t cookie) noexcept override { return unread[cookie]; }
};

/// An engine with one address on a wire.
struct Host {
  SeededRandom random;
  QueuePort local;
  QueuePort network;
  QueuePort raw;
  wire::IpAddress address;
  std::unique_ptr<Engine> engine;

  /// The host 10.0.0.`number`.
  explicit Host(uint8_t number) : Host(number, numbered_address(number)) {}
  Host(uint64_t seed, const wire::IpAddress& at, ManagementSink* management = nullptr)
      : random(seed), address(at) {
    EngineConfig config;
    config.management = management;
    config.addresses = {{address, "test0", 4096}};
    config.local = &local;
    config.network = &network;
    config.raw = &raw;
    config.random = &random;
    engine = Engine::create(config);
  }
  static wire::IpAddress numbered_address(uint8_t number) {
    const uint8_t octets[4] = {10, 0, 0, number};
    return wire::IpAddress::from_v4(octets);
  }
};

/// One application's QP with its rings.
struct Endpoint {
  Ring receive_ring;
  base::Qpn qpn;
  pipe::ReceiveProducer receives;
};

struct Done {
  int status = -1;
  uint64_t wr_id = 0;
  uint32_t byte_length = 0;
  uint32_t retired = 0;
  uint32_t qpn = 0;
};

/// An application on a host: one context, PD, CQ.
struct Application {
  static constexpr uint32_t kDepth = 256;
  Host& host;
  RecordedEvents events;
  Ring submission{pipe::submission_ring_bytes()};
  Ring completion{pipe::completion_ring_bytes(kDepth)};
  pipe::SubmissionProducer producer{submission.data()};
  pipe::CompletionConsumer consumer{completion.data(), kDepth};
  base::ContextId context;
  base::PdId pd;
  base::ChannelId channel;
  base::CqId cq;

  explicit Application(Host& on) : host(on) {
    context = host.engine->open_context(&events, submission.get()).value();
    pd = host.engine->allocate_pd(context).value();
    channel = host.engine->create_channel(context).value();
    cq = host.engine->create_cq(context, {77, kDepth, channel, false}, completion.get()).value();
  }

  base::MemoryKey register_memory(void* data, size_t length, uint32_t access = 7) {
    memory::Region region;
    region.pd = pd;
    region.address = region.window_base = reinterpret_cast<uint64_t>(data);
    region.length = length;
    region.access = access;
    region.window = std::make_unique<DirectWindow>();
    return host.engine->register_region(context, std::move(region)).value();
  }

  /// A QP, on an SRQ if one is named.
  Endpoint create_qp(uint32_t depth = 64, base::Srqn srq = {}) {
    CreateQp request;
    request.srq = srq;
    request.pd = pd;
    request.send_cq = request.receive_cq = cq;
    request.cookie = 99;
    request.max_send_wr = request.max_receive_wr = depth;
    request.max_send_sge = request.max_receive_sge = 32;
    request.max_inline_bytes = 512;
    Ring ring(pipe::receive_ring_bytes(depth, 32));
    const auto qpn = host.engine->create_qp(context, request, ring.get()).value();
    pipe::ReceiveProducer receives(ring.data(), depth, 32);
    return {std::move(ring), qpn, receives};
  }

  base::Result<ModifiedQp> modify(base::Qpn qpn, const base::QpAttributes& a, uint32_t mask) {
    return host.engine->modify_qp(context, qpn, a, mask, 0);
  }

  void connect(const Endpoint& endpoint, const wire::IpAddress& peer, base::Qpn peer_qpn,
               uint8_t path_mtu = 3) {
    base::QpAttributes a;
    a.state = base::QpState::kInit;
    a.port_number = 1;
    a.access_flags = 15;
    FLEXINS_CHECK(modify(endpoint.qpn, a,
                         base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpAccessFlags)
                      .ok());
    a.state = base::QpState::kReadyToReceive;
    a.path_mtu = path_mtu;
    a.destination_qpn = peer_qpn.value;
    a.max_dest_rd_atomic = 4;
    a.min_rnr_timer = 12;
    a.address.destination_gid = peer.bytes;
    a.address.is_global = 1;
    a.address.port_number = 1;
    FLEXINS_CHECK(modify(endpoint.qpn, a,
                         base::kQpState | base::kQpAddressVector | base::kQpPathMtu |
                             base::kQpDestQpn | base::kQpRqPsn | base::kQpMaxDestRdAtomic |
                             base::kQpMinRnrTimer)
                      .ok());
    a.state = base::QpState::kReadyToSend;
    a.timeout = 14;
    a.retry_count = 7;
    a.rnr_retry = 7;
    a.max_rd_atomic = 4;
    FLEXINS_CHECK(modify(endpoint.qpn, a,
                         base::kQpState | base::kQpTimeout | base::kQpRetryCount |
                             base::kQpRnrRetry | base::kQpSqPsn | base::kQpMaxRdAtomic)
                      .ok());
  }

  /// Posts a one-SGE request as a provider would.
  void post(base::Qpn qpn, base::WrOpcode opcode, base::Sge sge, uint64_t remote, uint32_t key,
            uint64_t wr_id) {
    FLEXINS_CHECK(producer.has_room(1));
    pipe::SubmissionSlot& slot = producer.slot(0);
    slot.qpn = qpn.value;
    slot.kind = 0;
    slot.opcode = static_cast<uint8_t>(opcode);
    slot.flags = base::kSendSignaled;
    slot.sge_count = 1;
    slot.wr_id = wr_id;
    slot.remote_address = remote;
    slot.remote_key = key;
    slot.immediate = 0;
    slot.inline_length = 0;
    slot.slot_count = 1;
    slot.first_sge = sge;
    producer.publish(1);
  }

  /// The next completion, or one with an impossible status when there is none.
  Done poll() {
    const pipe::CompletionEntry* front = consumer.front();
    if (front == nullptr) return {};
    const Done done{front->status, front->wr_id, front->byte_length, front->retired, front->qpn};
    consumer.pop();
    consumer.release();
    return done;
  }
};

/// Two hosts on a wire, stepped until both are quiet, in virtual time.
struct World {
  Host a{1};
  Host b{2};
  base::TimeNs now = 0;

  World() {
    a.raw.peer = &b.raw;
    b.raw.peer = &a.raw;
    a.network.peer = &b.network;
    b.network.peer = &a.network;
  }
  /// Steps until neither does anything, and lets `timers` expiries pass.
  void run(int timers = 0) {
    for (;;) {
      while (static_cast<int>(a.engine->step(now)) + static_cast<int>(b.engine->step(now)) > 0) {
      }
      const base::TimeNs next = std::min(a.engine->next_event(), b.engine->next_event());
      if (timers-- <= 0 || next == base::kNever) return;
      now = std::max(now + 1, next);
    }
  }
};

}  // namespace flexins::engine::testing
