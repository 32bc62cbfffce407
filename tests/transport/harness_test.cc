#include "harness.h"

#include <algorithm>
#include <cstring>

#include <gtest/gtest.h>

#include "allocation_guard.h"

namespace flexins::transport::test {

using base::QpState;

uint64_t TestRandom::next() noexcept {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15);  // splitmix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

memory::Extent TestWindow::resolve(uint64_t address, uint64_t length) noexcept {
  const uint64_t run = std::min(length, extent_bytes - address % extent_bytes);
  if (unmapped || gone) return {nullptr, run};
  return {reinterpret_cast<std::byte*>(address), run};
}

memory::AccessResult TestWindow::read(uint64_t address, std::span<std::byte> out) noexcept {
  if (gone) return memory::AccessResult::kFailed;
  if (is_busy()) return memory::AccessResult::kLater;
  std::memcpy(out.data(), reinterpret_cast<const void*>(address), out.size());
  return memory::AccessResult::kDone;
}

memory::AccessResult TestWindow::write(uint64_t address, std::span<const std::byte> in) noexcept {
  if (gone) return memory::AccessResult::kFailed;
  if (is_busy()) return memory::AccessResult::kLater;
  std::memcpy(reinterpret_cast<void*>(address), in.data(), in.size());
  return memory::AccessResult::kDone;
}

void Buffer::fill(uint64_t seed) {
  TestRandom random(seed);
  for (size_t i = 0; i < length; i += 8) {
    const uint64_t word = random.next();
    std::memcpy(bytes.get() + i, &word, std::min<size_t>(8, length - i));
  }
}

void TestSink::complete(const Completion& completion) noexcept {
  const AllowAllocation allow;
  all.push_back(completion);
}

bool TestReceives::take(ReceiveWqe& out) noexcept {
  const AllowAllocation allow;
  if (posted.empty()) return false;
  out = posted.front();
  posted.pop_front();
  return true;
}

void TestReceives::post(uint64_t wr_id, const std::vector<base::Sge>& sges) {
  ReceiveWqe& wqe = posted.emplace_back();
  wqe.wr_id = wr_id;
  wqe.sge_count = static_cast<uint32_t>(sges.size());
  std::copy(sges.begin(), sges.end(), wqe.sge.begin());
}

bool TestDomain::find(uint32_t srqn, ReceiveQueue& out) noexcept {
  const auto found = queues.find(srqn);
  if (found == queues.end()) return false;
  out = found->second;
  return true;
}

void TestObserver::on_async_event(base::Qpn, base::AsyncEvent event) noexcept {
  const AllowAllocation allow;
  events.push_back(event);
}

Request make_request(base::WrOpcode opcode, uint64_t wr_id, std::vector<base::Sge> sges,
                     uint64_t remote_address, uint32_t remote_key) {
  Request request;
  request.sges = std::move(sges);
  request.wqe.opcode = opcode;
  request.wqe.wr_id = wr_id;
  request.wqe.flags = base::kSendSignaled;
  request.wqe.remote_address = remote_address;
  request.wqe.remote_key = remote_key;
  return request;
}

Buffer& Host::allocate(size_t length, uint32_t access, base::PdId pd) {
  Buffer& buffer = buffers.emplace_back();
  buffer.bytes = std::make_unique<std::byte[]>(std::max<size_t>(length, 1));
  buffer.length = length;
  auto view = std::make_unique<TestWindow>();
  buffer.window = view.get();
  memory::Region region;
  region.pd = pd;
  region.address = region.window_base = buffer.address();
  region.length = length;
  region.access = access;
  region.window = std::move(view);
  buffer.key = regions.insert(std::move(region)).value().value;
  return buffer;
}

Harness::Harness(const Options& chosen, uint64_t seed)
    : options(chosen),
      random(seed),
      hosts{Host(seed * 2 + 1), Host(seed * 2 + 2)},
      staging_(wire::kMaxMtuBytes),
      forbidden_before_(forbidden_allocations()) {
  for (int i = 0; i < 2; ++i) {
    Host& host = hosts[i];
    host.window.limit_bytes = options.window_bytes;
    const uint8_t address[2][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}};
    host.path.source = wire::IpAddress::from_v4(address[i]);
    host.path.destination = wire::IpAddress::from_v4(address[1 - i]);
    QpConfig config;
    config.qpn = base::Qpn{static_cast<uint32_t>(0x100 + i)};
    config.pd = base::PdId{1};
    config.max_send_wr = options.max_send_wr;
    config.max_send_sge = options.max_send_sge;
    config.max_inline_bytes = options.max_inline_bytes;
    config.signal_all = options.signal_all;
    config.shared_receives = options.shared_receives;
    config.type = type(i);
    if (type(i) == base::QpType::kXrcReceive) config.domain = &host.domain;
    config.read_chunk_bytes = options.read_chunk_bytes;
    config.regions = &host.regions;
    config.send_cq = &host.sends;
    config.receive_cq = &host.receives_done;
    config.receives = &host.receives;
    config.observer = &host.observer;
    host.qp = std::move(Qp::create(config).value());
    host.qp->set_path(&host.path, &host.window);
  }
}

Harness::~Harness() {
  EXPECT_EQ(forbidden_allocations(), forbidden_before_) << "the hot path allocated";
  for (Host& host : hosts) {
    host.qp.reset();
    EXPECT_EQ(host.window.in_flight_bytes, 0u) << "the peer's window leaked";
  }
}

base::QpType Harness::type(int host) const {
  const bool target = options.type == base::QpType::kXrcSend && host == 1;
  return target ? base::QpType::kXrcReceive : options.type;
}

base::QpAttributes Harness::attributes(int host) const {
  base::QpAttributes a;
  a.path_mtu = options.path_mtu;
  a.port_number = 1;
  a.access_flags = options.access_flags;
  a.destination_qpn = static_cast<uint32_t>(0x100 + 1 - host);
  a.sq_psn = options.psn[host];
  a.rq_psn = options.psn[1 - host];
  a.max_rd_atomic = options.max_rd_atomic;
  a.max_dest_rd_atomic = options.max_dest_rd_atomic;
  a.min_rnr_timer = options.min_rnr_timer;
  a.timeout = options.timeout;
  a.retry_count = options.retry_count;
  a.rnr_retry = options.rnr_retry;
  return a;
}

base::Result<void> Harness::modify(int host, QpState state, uint32_t mask) {
  base::QpAttributes a = attributes(host);
  a.state = state;
  return hosts[host].qp->modify(a, mask | base::kQpState, now);
}

void Harness::to_init(int host) {
  ASSERT_TRUE(
      modify(host, QpState::kInit, base::kQpPkeyIndex | base::kQpPort | base::kQpAccessFlags).ok());
}

void Harness::to_rtr(int host) {
  const bool answers =
      type(host) == base::QpType::kReliable || type(host) == base::QpType::kXrcReceive;
  const uint32_t reliable = base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer;
  ASSERT_TRUE(modify(host, QpState::kReadyToReceive,
                     base::kQpAddressVector | base::kQpPathMtu | base::kQpDestQpn | base::kQpRqPsn |
                         (answers ? reliable : 0))
                  .ok());
}

void Harness::to_rts(int host) {
  const bool asks = type(host) == base::QpType::kReliable || type(host) == base::QpType::kXrcSend;
  const uint32_t reliable =
      base::kQpTimeout | base::kQpRetryCount | base::kQpRnrRetry | base::kQpMaxRdAtomic;
  const uint32_t least = type(host) == base::QpType::kXrcReceive ? base::kQpTimeout : 0u;
  ASSERT_TRUE(modify(host, QpState::kReadyToSend, base::kQpSqPsn | (asks ? reliable : least)).ok());
}

void Harness::connect() {
  for (int i = 0; i < 2; ++i) {
    to_init(i);
    to_rtr(i);
    to_rts(i);
  }
}

bool Harness::post(int host, const Request& request) {
  SendWqe wqe = request.wqe;
  wqe.sge = request.sges.data();
  wqe.sge_count = static_cast<uint8_t>(request.sges.size());
  if ((wqe.flags & base::kSendInline) != 0) {
    wqe.inline_data = request.inline_bytes.data();
    wqe.inline_length = static_cast<uint16_t>(request.inline_bytes.size());
  }
  const ForbidAllocation forbid;
  return hosts[host].qp->post_send(wqe, now);
}

std::optional<Packet> Harness::pull(int host, TxStatus* status, bool leaves) {
  wire::TxPacket out;
  out.staging = staging_.data();
  TxStatus result;
  {
    const ForbidAllocation forbid;
    result = hosts[host].qp->next_packet(out, now);
    if (result == TxStatus::kPacket && leaves) hosts[host].qp->on_transmitted();
  }
  if (status != nullptr) *status = result;
  if (result != TxStatus::kPacket) return std::nullopt;
  ++packets_pulled;
  EXPECT_EQ(out.path, &hosts[host].path);
  // Over real bytes, so that header, payload and pad are those of a packet.
  std::vector<std::byte> bytes(out.header.begin(), out.header.begin() + out.header_length);
  uint64_t payload = 0;
  for (uint32_t i = 0; i < out.piece_count; ++i) {
    const auto* from = static_cast<const std::byte*>(out.pieces[i].iov_base);
    bytes.insert(bytes.end(), from, from + out.pieces[i].iov_len);
    payload += out.pieces[i].iov_len;
  }
  EXPECT_EQ(payload, out.payload_length);
  bytes.resize(bytes.size() + out.pad_count);
  EXPECT_EQ(bytes.size() % 4, 0u);
  Packet packet;
  packet.from = host;
  size_t header_length = 0;
  EXPECT_EQ(wire::parse(bytes, 0, packet.headers, header_length), wire::ParseError::kNone);
  packet.payload.assign(bytes.begin() + static_cast<ptrdiff_t>(header_length),
                        bytes.end() - packet.headers.bth.pad_count);
  return packet;
}

void Harness::deliver(const Packet& packet) {
  const int to = 1 - packet.from;
  // In two pieces, as a port may hand them over.
  const size_t half = packet.payload.size() / 2;
  auto* begin = const_cast<std::byte*>(packet.payload.data());
  const iovec pieces[2] = {{begin, half}, {begin + half, packet.payload.size() - half}};
  const ForbidAllocation forbid;
  hosts[to].qp->on_packet(packet.headers, pieces, static_cast<uint32_t>(packet.payload.size()),
                          hosts[packet.from].path.source, false, now);
}

void Harness::put_on_link(Packet packet) {
  ++sent_[packet.from][static_cast<uint8_t>(packet.headers.bth.opcode)];
  const int copies = fate ? fate(packet) : 1;
  for (int i = 0; i < copies; ++i) {
    size_t at = link.size();
    if (reorder_per_mille > 0 && random.chance(reorder_per_mille)) {
      at -= std::min<size_t>(at, 1 + random.below(5));
    }
    link.insert(link.begin() + static_cast<ptrdiff_t>(at), packet);
  }
}

bool Harness::collect() {
  bool any = false;
  for (int i = 0; i < 2; ++i) {
    while (auto packet = pull(i)) {
      put_on_link(std::move(*packet));
      any = true;
    }
  }
  return any;
}

bool Harness::carry() {
  const bool any = !link.empty();
  for (size_t count = link.size(); count > 0; --count) {
    const Packet packet = std::move(link.front());
    link.pop_front();
    deliver(packet);
  }
  return any;
}

void Harness::settle() {
  while (collect() || !link.empty()) carry();
}

bool Harness::step_time() {
  const base::TimeNs next = std::min(hosts[0].qp->deadline(), hosts[1].qp->deadline());
  if (next == base::kNever) return false;
  now = std::max(now, next);
  const ForbidAllocation forbid;
  for (Host& host : hosts) {
    if (host.qp->deadline() <= now) host.qp->on_deadline(now);
  }
  return true;
}

void Harness::run(base::TimeNs until) {
  for (settle(); now < until && step_time(); settle()) continue;
}

uint64_t Harness::sent(int host, wire::Opcode opcode) const {
  return sent_[host][static_cast<uint8_t>(opcode)];
}

}  // namespace flexins::transport::test
