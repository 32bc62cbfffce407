#include <vector>

#include "base/check.h"
#include "input.h"
#include "tests/engine/harness.h"

/// A hostile application and a hostile network at once: any submission and receive entries, any
/// packets for queue pairs of each kind, with time passing between them. Nothing may crash or write
/// outside of what is registered; when the application goes, nothing is left.

namespace flexins::engine::testing {
namespace {

using fuzz::Input;

constexpr size_t kMemoryBytes = 64 * 1024;
constexpr uint32_t kDepth = 16;
constexpr int kStepsMax = 64;  ///< a queue pair that talks to itself may never end

struct QueuePair {
  base::Qpn qpn;
  Ring ring;
};

struct Machine {
  Host host{1};
  Application application{host};
  std::vector<std::byte> memory = std::vector<std::byte>(kMemoryBytes);
  base::MemoryKey key;
  base::Srqn srq;
  Ring srq_ring{pipe::receive_ring_bytes(kDepth, 2)};
  std::vector<QueuePair> qps;
  base::TimeNs now = base::kSecond;

  Machine() {
    constexpr uint32_t kAll = base::kAccessLocalWrite | base::kAccessRemoteWrite |
                              base::kAccessRemoteRead | base::kAccessRemoteAtomic |
                              base::kAccessMwBind;
    key = application.register_memory(memory.data(), memory.size(), kAll);
    static_cast<void>(
        host.engine->allocate_window(application.context, application.pd, base::MwType::kType2));
    CreateSrq shared;
    shared.pd = application.pd;
    shared.max_wr = kDepth;
    shared.max_sge = 2;
    srq = host.engine->create_srq(application.context, shared, srq_ring.get()).value();
    base::AddressVector to;
    to.destination_gid = host.address.bytes;
    to.is_global = 1;
    to.port_number = 1;
    static_cast<void>(host.engine->create_ah(application.context, application.pd, to));
    add(base::QpType::kReliable, {});
    add(base::QpType::kReliable, srq);
    add(base::QpType::kUnreliable, {});
    add(base::QpType::kDatagram, {});
    // The first two are connected with each other, the third with somebody out there.
    connect(qps[0].qpn, host.address, qps[1].qpn, true);
    connect(qps[1].qpn, host.address, qps[0].qpn, true);
    connect(qps[2].qpn, Host::numbered_address(9), base::Qpn{5}, false);
    make_ready(qps[3].qpn);
  }

  void add(base::QpType type, base::Srqn srq_of) {
    CreateQp request;
    request.pd = application.pd;
    request.send_cq = request.receive_cq = application.cq;
    request.type = type;
    request.srq = srq_of;
    request.max_send_wr = request.max_receive_wr = kDepth;
    request.max_send_sge = request.max_receive_sge = 2;
    request.max_inline_bytes = 64;
    Ring ring(pipe::receive_ring_bytes(kDepth, 2));
    const RingMemory receives = srq_of.value == 0 ? ring.get() : RingMemory{};
    const auto qpn = host.engine->create_qp(application.context, request, receives).value();
    qps.push_back({qpn, std::move(ring)});
  }

  void modify(base::Qpn qpn, const base::QpAttributes& attributes, uint32_t mask) {
    FLEXINS_CHECK(host.engine->modify_qp(application.context, qpn, attributes, mask, now).ok());
  }

  void connect(base::Qpn qpn, const wire::IpAddress& peer, base::Qpn peer_qpn, bool is_reliable) {
    base::QpAttributes a;
    a.state = base::QpState::kInit;
    a.port_number = 1;
    a.access_flags = base::kAccessLocalWrite | base::kAccessRemoteWrite;
    if (is_reliable) a.access_flags |= base::kAccessRemoteRead | base::kAccessRemoteAtomic;
    modify(qpn, a, base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpAccessFlags);
    a.state = base::QpState::kReadyToReceive;
    a.path_mtu = 1;
    a.destination_qpn = peer_qpn.value;
    a.max_dest_rd_atomic = 2;
    a.min_rnr_timer = 1;
    a.address.destination_gid = peer.bytes;
    a.address.is_global = 1;
    a.address.port_number = 1;
    uint32_t mask = base::kQpState | base::kQpAddressVector | base::kQpPathMtu | base::kQpDestQpn |
                    base::kQpRqPsn;
    if (is_reliable) mask |= base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer;
    modify(qpn, a, mask);
    a.state = base::QpState::kReadyToSend;
    a.timeout = 10;
    a.retry_count = 2;
    a.rnr_retry = 2;
    a.max_rd_atomic = 2;
    mask = base::kQpState | base::kQpSqPsn;
    if (is_reliable) {
      mask |= base::kQpTimeout | base::kQpRetryCount | base::kQpRnrRetry | base::kQpMaxRdAtomic;
    }
    modify(qpn, a, mask);
  }

  void make_ready(base::Qpn qpn) {
    base::QpAttributes a;
    a.state = base::QpState::kInit;
    a.port_number = 1;
    a.qkey = 1;
    modify(qpn, a, base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpQkey);
    a.state = base::QpState::kReadyToReceive;
    modify(qpn, a, base::kQpState);
    a.state = base::QpState::kReadyToSend;
    modify(qpn, a, base::kQpState | base::kQpSqPsn);
  }

  /// Addresses of our memory are not for the fuzzer to guess: small ones are offsets into it.
  [[nodiscard]] uint64_t address(uint64_t guess) const {
    return guess < 2 * kMemoryBytes ? reinterpret_cast<uint64_t>(memory.data()) + guess : guess;
  }

  void submit(Input& input) {
    const uint32_t slots = 1 + input.byte() % 3;
    if (!application.producer.has_room(slots)) return;
    for (uint32_t i = 0; i < slots; ++i) input.fill(application.producer.slot(i));
    pipe::SubmissionSlot& head = application.producer.slot(0);
    if (head.qpn < qps.size()) head.qpn = qps[head.qpn].qpn.value;
    head.remote_address = address(head.remote_address);
    head.first_sge.address = address(head.first_sge.address);
    application.producer.publish(slots);
  }

  /// Entries as they stand, and a count that may be a lie.
  void post_receives(Input& input) {
    const uint8_t which = input.byte();
    std::byte* ring = which % 5 < qps.size() ? qps[which % 5].ring.data() : srq_ring.data();
    auto* header = reinterpret_cast<pipe::ReceiveRingHeader*>(ring);
    const auto entries = input.take(input.byte());
    std::copy(entries.begin(), entries.end(), ring + pipe::kRingHeaderBytes);
    uint32_t produced = header->produced.load(std::memory_order_relaxed);
    produced += input.byte();
    header->produced.store(produced, std::memory_order_release);
  }

  void receive(Input& input) {
    FlatPacket packet;
    const uint8_t head = input.byte();
    packet.destination = host.address;
    packet.source = (head & 8) != 0 ? host.address : Host::numbered_address(9);
    const auto bytes = input.take(input.byte() * 4);
    packet.bytes.assign(bytes.begin(), bytes.end());
    constexpr size_t kBthBytes = 12;
    constexpr size_t kDestinationByte = 5;
    if (packet.bytes.size() < kBthBytes) return;
    const uint32_t qpn = qps[head % qps.size()].qpn.value;
    for (size_t i = 0; i < 3; ++i) {
      packet.bytes[kDestinationByte + i] = static_cast<std::byte>(qpn >> 8 * (2 - i) & 0xff);
    }
    host.network.inbox.push_back(std::move(packet));
  }

  void step() {
    for (int i = 0; i < kStepsMax && host.engine->step(now); ++i) {
    }
    host.network.inbox.clear();  // nobody is out there to take what we sent
    while (application.poll().status >= 0) {
    }
  }
};

void run(Input input) {
  Machine machine;
  while (!input.empty()) {
    const uint8_t what = input.byte();
    switch (what % 4) {
      case 0: machine.submit(input); break;
      case 1: machine.post_receives(input); break;
      case 2: machine.receive(input); break;
      default: machine.now += base::TimeNs{what} * base::kMillisecond; break;
    }
    machine.step();
  }
  machine.host.engine->close_context(machine.application.context);
  const EngineInfo left = machine.host.engine->info();
  FLEXINS_CHECK(left.contexts.empty() && left.qps.empty() && left.regions.empty());
}

}  // namespace
}  // namespace flexins::engine::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  flexins::engine::testing::run(flexins::fuzz::Input(std::as_bytes(std::span(data, size))));
  return 0;
}
