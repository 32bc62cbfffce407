#include "replay_end.h"

#include <algorithm>
#include <cstring>

#include "base/byte_order.h"
#include "base/check.h"

namespace flexins::interop {
namespace {

using base::QpType;
using base::WrOpcode;

constexpr uint8_t kTimeout = 14;
constexpr uint8_t kRetries = 7;
constexpr uint8_t kRnrRetries = 7;
constexpr uint8_t kMinRnrTimer = 18;
constexpr uint8_t kReads = 4;            ///< in flight, either way
constexpr uint32_t kReceiveId = 0x1000;  ///< + operation: wr_id of a receive
constexpr uint32_t kQueueDepth = 64;

WrOpcode opcode_of(Kind kind) {
  switch (kind) {
    case Kind::kSend:
    case Kind::kSendSolicited: return WrOpcode::kSend;
    case Kind::kSendImmediate: return WrOpcode::kSendWithImmediate;
    case Kind::kSendInvalidate: return WrOpcode::kSendWithInvalidate;
    case Kind::kWriteImmediate: return WrOpcode::kRdmaWriteWithImmediate;
    case Kind::kRead:
    case Kind::kReadBadKey: return WrOpcode::kRdmaRead;
    case Kind::kCompareSwap: return WrOpcode::kCompareSwap;
    case Kind::kFetchAdd: return WrOpcode::kFetchAdd;
    case Kind::kWrite:
    case Kind::kWriteBadKey:
    case Kind::kWriteWindow:
    case Kind::kWriteOutOfBounds: break;
  }
  return WrOpcode::kRdmaWrite;
}

uint8_t path_mtu_code(uint32_t bytes) {
  uint8_t code = 1;
  for (uint32_t mtu = 256; mtu < bytes; mtu *= 2) ++code;
  return code;
}

}  // namespace

End::End(const Scenario& scenario, const Capture& capture, Role role)
    : scenario_(scenario),
      capture_(capture),
      role_(role),
      memory_(kMemoryBytes, std::byte{0xee}),
      host_(std::make_unique<engine::testing::Host>(
          7, role == Role::kClient ? capture.client : capture.server)),
      application_(std::make_unique<engine::testing::Application>(*host_)) {
  host_->network.peer = &sent_;
  register_memory();
  fill_memory();
  make_qp();
  if (scenario.type == QpType::kDatagram) {
    make_datagram_qp_ready();
  } else {
    connect();
  }
  if (scenario.has_window && role == Role::kServer) bind_window();
}

void End::register_memory() {
  memory::Region region;
  region.pd = application_->pd;
  // The server's memory lies where the capture says that it did.
  region.address = capture_.memory_address;
  region.window_base = reinterpret_cast<uint64_t>(memory_.data());
  region.length = memory_.size();
  region.access = base::kAccessLocalWrite | base::kAccessRemoteWrite | base::kAccessRemoteRead |
                  base::kAccessRemoteAtomic | base::kAccessMwBind;
  region.window = std::make_unique<engine::testing::DirectWindow>();
  key_ = host_->engine->register_region(application_->context, std::move(region)).value();
  granted_key_ = key_;
}

void End::fill_memory() {
  for (uint32_t k = 0; k < scenario_.operations.size(); ++k) {
    const Operation& operation = scenario_.operations[k];
    const bool is_read = operation.kind == Kind::kRead;
    if (is_read == (role_ == Role::kServer)) {
      for (uint32_t i = 0; i < operation.length(scenario_.mtu_bytes); ++i) {
        slot(k)[i] = std::byte{byte_of(k, i)};
      }
    }
    if (is_atomic(operation.kind) && role_ == Role::kServer) {
      const uint64_t value = kAtomicValue + k;
      std::memcpy(slot(k), &value, sizeof value);
    }
  }
}

void End::modify(const base::QpAttributes& attributes, uint32_t mask) {
  FLEXINS_CHECK(application_->modify(qpn(), attributes, mask).ok());
}

void End::make_qp() {
  engine::CreateQp request;
  request.pd = application_->pd;
  request.send_cq = request.receive_cq = application_->cq;
  request.type = scenario_.type;
  request.max_send_wr = request.max_receive_wr = kQueueDepth;
  engine::testing::Ring ring(pipe::receive_ring_bytes(kQueueDepth, 1));
  const auto qpn = host_->engine->create_qp(application_->context, request, ring.get()).value();
  const pipe::ReceiveProducer receives(ring.data(), kQueueDepth, 1);
  endpoint_ = engine::testing::Endpoint{std::move(ring), qpn, receives};
}

void End::make_datagram_qp_ready() {
  base::QpAttributes a;
  a.state = base::QpState::kInit;
  a.port_number = 1;
  a.qkey = kQkey;
  modify(a, base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpQkey);
  a.state = base::QpState::kReadyToReceive;
  modify(a, base::kQpState);
  a.state = base::QpState::kReadyToSend;
  a.sq_psn = role_ == Role::kClient ? capture_.packets.front().headers.bth.psn.value() : kServerPsn;
  modify(a, base::kQpState | base::kQpSqPsn);
  base::AddressVector to;
  to.destination_gid = (role_ == Role::kClient ? capture_.server : capture_.client).bytes;
  to.is_global = 1;
  to.port_number = 1;
  address_handle_ = host_->engine->create_ah(application_->context, application_->pd, to).value();
}

void End::connect() {
  const bool is_client = role_ == Role::kClient;
  const bool is_reliable = scenario_.type == QpType::kReliable;
  const uint32_t client_psn = capture_.packets.front().headers.bth.psn.value();
  base::QpAttributes a;
  a.state = base::QpState::kInit;
  a.port_number = 1;
  a.access_flags = base::kAccessLocalWrite;
  if (scenario_.remote_access) a.access_flags |= base::kAccessRemoteWrite;
  if (scenario_.has_window) a.access_flags |= base::kAccessMwBind;
  if (scenario_.remote_access && is_reliable) {
    a.access_flags |= base::kAccessRemoteRead | base::kAccessRemoteAtomic;
  }
  modify(a, base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpAccessFlags);

  a.state = base::QpState::kReadyToReceive;
  a.path_mtu = path_mtu_code(scenario_.mtu_bytes);
  a.destination_qpn = (is_client ? capture_.server_qpn : capture_.client_qpn).value;
  a.rq_psn = is_client ? kServerPsn : client_psn;
  a.max_dest_rd_atomic = kReads;
  a.min_rnr_timer = kMinRnrTimer;
  a.address.destination_gid = (is_client ? capture_.server : capture_.client).bytes;
  a.address.is_global = 1;
  a.address.port_number = 1;
  uint32_t mask = base::kQpState | base::kQpAddressVector | base::kQpPathMtu | base::kQpDestQpn |
                  base::kQpRqPsn;
  if (is_reliable) mask |= base::kQpMaxDestRdAtomic | base::kQpMinRnrTimer;
  modify(a, mask);

  a.state = base::QpState::kReadyToSend;
  a.sq_psn = is_client ? client_psn : kServerPsn;
  a.timeout = kTimeout;
  a.retry_count = kRetries;
  a.rnr_retry = kRnrRetries;
  a.max_rd_atomic = kReads;
  mask = base::kQpState | base::kQpSqPsn;
  if (is_reliable) {
    mask |= base::kQpTimeout | base::kQpRetryCount | base::kQpRnrRetry | base::kQpMaxRdAtomic;
  }
  modify(a, mask);
}

void End::bind_window() {
  const base::MemoryKey unbound =
      host_->engine->allocate_window(application_->context, application_->pd, base::MwType::kType2)
          .value();
  // As ibv_inc_rkey: the low byte is its owner's.
  granted_key_.value = (unbound.value & ~0xffU) | ((unbound.value + 1) & 0xffU);
  FLEXINS_CHECK(application_->producer.has_room(2));
  pipe::SubmissionSlot& head = application_->producer.slot(0);
  head.qpn = qpn().value;
  head.kind = static_cast<uint8_t>(pipe::SubmissionKind::kSend);
  head.opcode = static_cast<uint8_t>(WrOpcode::kBindMw);
  head.flags = base::kSendSignaled;
  head.wr_id = 0;
  head.remote_address = capture_.memory_address;
  head.remote_key = granted_key_.value;
  head.immediate = unbound.value;
  head.sge_count = 0;
  head.inline_length = 0;
  head.slot_count = 2;
  const pipe::BindOperands operands = {kSlotBytes, key_.value,
                                       base::kAccessRemoteWrite | base::kAccessRemoteRead};
  std::memcpy(static_cast<void*>(&application_->producer.slot(1)), &operands, sizeof operands);
  application_->producer.publish(head.slot_count);
  settle();
  FLEXINS_CHECK(send_completions_.size() == 1 && send_completions_[0].status == 0);
}

void End::post_receives() {
  for (uint32_t k = 0; k < scenario_.operations.size(); ++k) {
    if (!takes_receive(scenario_.operations[k].kind)) continue;
    const base::Sge into = {capture_.memory_address + uint64_t{kSlotBytes} * (kSlots + k),
                            scenario_.receive_bytes != 0 ? scenario_.receive_bytes : kSlotBytes,
                            scenario_.bad_receive_key ? key_.value ^ 0x55 : key_.value};
    endpoint_->receives.write(kReceiveId + k, std::span(&into, 1));
  }
  endpoint_->receives.publish();
}

bool End::post_next() {
  if (role_ != Role::kClient || posted_ == scenario_.operations.size()) return false;
  if (!scenario_.is_pipelined && send_completions_.size() < posted_) return false;
  post_operation(posted_++);
  return true;
}

void End::post_operation(uint32_t index) {
  const Operation& operation = scenario_.operations[index];
  const uint64_t address = capture_.memory_address + uint64_t{kSlotBytes} * index;
  FLEXINS_CHECK(application_->producer.has_room(2));
  pipe::SubmissionSlot& head = application_->producer.slot(0);
  head.qpn = qpn().value;
  head.kind = static_cast<uint8_t>(pipe::SubmissionKind::kSend);
  head.opcode = static_cast<uint8_t>(opcode_of(operation.kind));
  head.flags = base::kSendSignaled;
  if (operation.kind == Kind::kSendSolicited) head.flags |= base::kSendSolicited;
  head.wr_id = index;
  head.remote_address = operation.kind == Kind::kWriteOutOfBounds
                            ? capture_.memory_address + kMemoryBytes - 4
                            : address;
  if (operation.kind == Kind::kWriteWindow) head.remote_address = capture_.memory_address;
  const bool bad_key = operation.kind == Kind::kWriteBadKey || operation.kind == Kind::kReadBadKey;
  head.remote_key = bad_key ? kBadKey : capture_.memory_key;
  if (scenario_.type == QpType::kDatagram) {
    head.remote_address =
        pipe::pack_datagram_address({address_handle_.value, capture_.server_qpn.value});
    head.remote_key = kQkey;
  }
  base::store_be<uint32_t>(&head.immediate, kImmediate + index);
  if (operation.kind == Kind::kSendInvalidate) head.immediate = capture_.memory_key;
  head.inline_length = 0;
  const uint32_t length = operation.length(scenario_.mtu_bytes);
  head.sge_count = length == 0 ? 0 : 1;
  head.first_sge = {address, length, key_.value};
  head.slot_count = is_atomic(operation.kind) ? 2 : 1;
  if (is_atomic(operation.kind)) {
    pipe::AtomicOperands operands = {kAddend, kSwapValue};
    if (operation.kind == Kind::kCompareSwap) {
      operands.compare_add = index % 2 == 1 ? kAtomicValue + index : kWrongGuess;
    }
    std::memcpy(static_cast<void*>(&application_->producer.slot(1)), &operands, sizeof operands);
  }
  application_->producer.publish(head.slot_count);
}

void End::deliver(engine::testing::FlatPacket packet) {
  wire::Headers headers;
  size_t header_bytes = 0;
  FLEXINS_CHECK(wire::parse(packet.bytes, 0, headers, header_bytes) == wire::ParseError::kNone);
  headers.bth.destination = qpn();
  if (headers.reth.key == capture_.memory_key) headers.reth.key = granted_key_.value;
  if (headers.atomic.key == capture_.memory_key) headers.atomic.key = granted_key_.value;
  if (headers.invalidate_key == capture_.memory_key) headers.invalidate_key = granted_key_.value;
  wire::emit(headers, packet.bytes);
  host_->network.inbox.push_back(std::move(packet));
  settle();
}

void End::settle() {
  while (host_->engine->step(now_)) {
  }
  for (auto done = application_->poll(); done.status >= 0; done = application_->poll()) {
    (done.wr_id >= kReceiveId ? receive_completions_ : send_completions_).push_back(done);
  }
}

bool End::wait() {
  const base::TimeNs next = host_->engine->next_event();
  if (next == base::kNever) return false;
  now_ = std::max(now_ + 1, next);
  return true;
}

}  // namespace flexins::interop
