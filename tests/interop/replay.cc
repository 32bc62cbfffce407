#include "replay.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/byte_order.h"
#include "base/check.h"
#include "wire/icrc.h"

namespace flexins::interop {
namespace {

using base::WcStatus;
using base::WrOpcode;
using engine::testing::FlatPacket;

constexpr uint8_t kTimeout = 14;
constexpr uint8_t kRetries = 7;
constexpr uint8_t kRnrRetries = 7;
constexpr uint8_t kMinRnrTimer = 18;
constexpr uint8_t kReads = 4;            ///< in flight, either way
constexpr uint32_t kReceiveId = 0x1000;  ///< + operation: wr_id of a receive
constexpr int kExpiriesMax = 32;         ///< of timers, before a packet counts as missing
constexpr size_t kBthBytes = 12;
constexpr size_t kBthFlagsByte = 8;
constexpr std::byte kAckRequest{0x80};
constexpr size_t kMsnByte = 13;  ///< of an answer: behind BTH and syndrome
constexpr size_t kMsnBytes = 3;

WrOpcode opcode_of(Kind kind) {
  switch (kind) {
    case Kind::kSend:
    case Kind::kSendSolicited: return WrOpcode::kSend;
    case Kind::kSendImmediate: return WrOpcode::kSendWithImmediate;
    case Kind::kWriteImmediate: return WrOpcode::kRdmaWriteWithImmediate;
    case Kind::kRead:
    case Kind::kReadBadKey: return WrOpcode::kRdmaRead;
    case Kind::kCompareSwap: return WrOpcode::kCompareSwap;
    case Kind::kFetchAdd: return WrOpcode::kFetchAdd;
    case Kind::kWrite:
    case Kind::kWriteBadKey:
    case Kind::kWriteOutOfBounds: break;
  }
  return WrOpcode::kRdmaWrite;
}

bool is_atomic(Kind kind) { return kind == Kind::kCompareSwap || kind == Kind::kFetchAdd; }

void fill(std::byte* to, uint32_t operation, uint32_t length) {
  for (uint32_t i = 0; i < length; ++i) to[i] = std::byte{byte_of(operation, i)};
}
bool holds(const std::byte* at, uint32_t operation, uint32_t length) {
  for (uint32_t i = 0; i < length; ++i) {
    if (at[i] != std::byte{byte_of(operation, i)}) return false;
  }
  return true;
}

uint8_t path_mtu_code(uint32_t bytes) {
  uint8_t code = 1;
  for (uint32_t mtu = 256; mtu < bytes; mtu *= 2) ++code;
  return code;
}

}  // namespace

Replay::Replay(const Scenario& scenario, const Capture& capture, Role role)
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
}

void Replay::register_memory() {
  memory::Region region;
  region.pd = application_->pd;
  // The server's memory lies where the capture says that it did.
  region.address = capture_.memory_address;
  region.window_base = reinterpret_cast<uint64_t>(memory_.data());
  region.length = memory_.size();
  region.access = base::kAccessLocalWrite | base::kAccessRemoteWrite | base::kAccessRemoteRead |
                  base::kAccessRemoteAtomic;
  region.window = std::make_unique<engine::testing::DirectWindow>();
  key_ = host_->engine->register_region(application_->context, std::move(region)).value();
}

void Replay::fill_memory() {
  for (uint32_t k = 0; k < scenario_.operations.size(); ++k) {
    const Operation& operation = scenario_.operations[k];
    const bool is_read = operation.kind == Kind::kRead;
    if (is_read == (role_ == Role::kServer)) {
      fill(slot(k), k, operation.length(scenario_.mtu_bytes));
    }
    if (is_atomic(operation.kind) && role_ == Role::kServer) {
      const uint64_t value = kAtomicValue + k;
      std::memcpy(slot(k), &value, sizeof value);
    }
  }
}

void Replay::make_qp() {
  endpoint_.emplace(application_->create_qp());
  const base::Qpn qpn = endpoint_->qpn;
  const bool is_client = role_ == Role::kClient;
  const wire::IpAddress& peer = is_client ? capture_.server : capture_.client;
  const uint32_t client_psn = capture_.packets.front().headers.bth.psn.value();
  base::QpAttributes a;
  a.state = base::QpState::kInit;
  a.port_number = 1;
  a.access_flags = base::kAccessLocalWrite;
  if (scenario_.remote_access) {
    a.access_flags |=
        base::kAccessRemoteWrite | base::kAccessRemoteRead | base::kAccessRemoteAtomic;
  }
  FLEXINS_CHECK(
      application_
          ->modify(qpn, a,
                   base::kQpState | base::kQpPkeyIndex | base::kQpPort | base::kQpAccessFlags)
          .ok());
  a.state = base::QpState::kReadyToReceive;
  a.path_mtu = path_mtu_code(scenario_.mtu_bytes);
  a.destination_qpn = (is_client ? capture_.server_qpn : capture_.client_qpn).value;
  a.rq_psn = is_client ? kServerPsn : client_psn;
  a.max_dest_rd_atomic = kReads;
  a.min_rnr_timer = kMinRnrTimer;
  a.address.destination_gid = peer.bytes;
  a.address.is_global = 1;
  a.address.port_number = 1;
  FLEXINS_CHECK(application_
                    ->modify(qpn, a,
                             base::kQpState | base::kQpAddressVector | base::kQpPathMtu |
                                 base::kQpDestQpn | base::kQpRqPsn | base::kQpMaxDestRdAtomic |
                                 base::kQpMinRnrTimer)
                    .ok());
  a.state = base::QpState::kReadyToSend;
  a.sq_psn = is_client ? client_psn : kServerPsn;
  a.timeout = kTimeout;
  a.retry_count = kRetries;
  a.rnr_retry = kRnrRetries;
  a.max_rd_atomic = kReads;
  FLEXINS_CHECK(application_
                    ->modify(qpn, a,
                             base::kQpState | base::kQpTimeout | base::kQpRetryCount |
                                 base::kQpRnrRetry | base::kQpSqPsn | base::kQpMaxRdAtomic)
                    .ok());
}

void Replay::post_receives() {
  receives_posted_ = true;
  for (uint32_t k = 0; k < scenario_.operations.size(); ++k) {
    if (!takes_receive(scenario_.operations[k].kind)) continue;
    const base::Sge into = {capture_.memory_address + uint64_t{kSlotBytes} * (kSlots + k),
                            scenario_.receive_bytes != 0 ? scenario_.receive_bytes : kSlotBytes,
                            scenario_.bad_receive_key ? key_.value ^ 0x55 : key_.value};
    endpoint_->receives.write(kReceiveId + k, std::span(&into, 1));
  }
  endpoint_->receives.publish();
}

void Replay::post_operation(uint32_t index) {
  const Operation& operation = scenario_.operations[index];
  const bool atomic = is_atomic(operation.kind);
  const uint64_t address = capture_.memory_address + uint64_t{kSlotBytes} * index;
  FLEXINS_CHECK(application_->producer.has_room(2));
  pipe::SubmissionSlot& head = application_->producer.slot(0);
  head.qpn = endpoint_->qpn.value;
  head.kind = static_cast<uint8_t>(pipe::SubmissionKind::kSend);
  head.opcode = static_cast<uint8_t>(opcode_of(operation.kind));
  head.flags = base::kSendSignaled;
  if (operation.kind == Kind::kSendSolicited) head.flags |= base::kSendSolicited;
  head.wr_id = index;
  head.remote_address = operation.kind == Kind::kWriteOutOfBounds
                            ? capture_.memory_address + kMemoryBytes - 4
                            : address;
  const bool bad_key = operation.kind == Kind::kWriteBadKey || operation.kind == Kind::kReadBadKey;
  head.remote_key = bad_key ? kBadKey : capture_.memory_key;
  base::store_be<uint32_t>(&head.immediate, kImmediate + index);
  head.inline_length = 0;
  const uint32_t length = operation.length(scenario_.mtu_bytes);
  head.sge_count = length == 0 ? 0 : 1;
  head.first_sge = {address, length, key_.value};
  head.slot_count = atomic ? 2 : 1;
  if (atomic) {
    pipe::AtomicOperands operands = {kAddend, kSwapValue};
    if (operation.kind == Kind::kCompareSwap) {
      operands.compare_add = index % 2 == 1 ? kAtomicValue + index : kWrongGuess;
    }
    std::memcpy(static_cast<void*>(&application_->producer.slot(1)), &operands, sizeof operands);
  }
  application_->producer.publish(head.slot_count);
}

bool Replay::post_next() {
  if (role_ != Role::kClient || posted_ == scenario_.operations.size()) return false;
  if (!scenario_.is_pipelined && send_completions_.size() < posted_) return false;
  post_operation(posted_++);
  return true;
}

void Replay::collect_completions() {
  for (auto done = application_->poll(); done.status >= 0; done = application_->poll()) {
    (done.wr_id >= kReceiveId ? receive_completions_ : send_completions_).push_back(done);
  }
}

void Replay::arrive(const Arrival& arrival) {
  wire::OuterHeaders outer = wire::outer_headers(arrival.packet->outer);
  uint16_t identification = 0;
  if (wire::icrc_check(outer, arrival.transport, identification) != wire::IcrcVerdict::kExact) {
    return;  // as a port would
  }
  FlatPacket packet;
  packet.bytes.assign(arrival.transport.begin(), arrival.transport.end() - 4);
  packet.source = outer.source;
  packet.destination = outer.destination;
  wire::Headers headers;
  size_t header_bytes = 0;
  FLEXINS_CHECK(wire::parse(packet.bytes, 0, headers, header_bytes) == wire::ParseError::kNone);
  headers.bth.destination = endpoint_->qpn;
  if (headers.reth.key == capture_.memory_key) headers.reth.key = key_.value;
  if (headers.atomic.key == capture_.memory_key) headers.atomic.key = key_.value;
  wire::emit(headers, packet.bytes);
  host_->network.inbox.push_back(std::move(packet));
  while (host_->engine->step(now_)) {
  }
  collect_completions();
}

bool Replay::wait_for_packet() {
  for (int expiries = 0; expiries < kExpiriesMax;) {
    while (host_->engine->step(now_)) {
    }
    collect_completions();
    if (!sent_.inbox.empty()) return true;
    if (post_next()) continue;
    const base::TimeNs next = host_->engine->next_event();
    if (next == base::kNever) return false;
    now_ = std::max(now_ + 1, next);
    ++expiries;
  }
  return false;
}

void Replay::complain(const Captured& expected, const std::string& what) {
  deviations_.push_back(describe(expected) + ": " + what);
}

/// An acknowledgement that only repeats the one before it says nothing new: a responder may save
/// it when it answers duplicates.
bool Replay::is_spared(const Captured& expected) const {
  return last_compared_ != nullptr && expected.headers.bth.opcode == wire::Opcode::kRcAcknowledge &&
         std::equal(expected.transport.begin(), expected.transport.end() - 4,
                    last_compared_->transport.begin(), last_compared_->transport.end() - 4);
}

void Replay::compare(const Captured& expected) {
  const bool is_there = wait_for_packet();
  const size_t length = expected.transport.size() - 4;
  if (!is_there) {
    if (!is_spared(expected)) complain(expected, "nothing was sent");
    return;
  }
  FlatPacket& ours = sent_.inbox.front();
  if (ours.bytes.size() >= kBthBytes) {
    // When to ask for an acknowledgement within a message is the requester's choice.
    ours.bytes[kBthFlagsByte] = (ours.bytes[kBthFlagsByte] & ~kAckRequest) |
                                (expected.transport[kBthFlagsByte] & kAckRequest);
  }
  const bool repeats = last_compared_ != nullptr &&
                       distance(expected.headers.bth.psn, newest_response_) <= 0 &&
                       ours.bytes.size() == length;
  if (repeats && role_ == Role::kServer &&
      (wire::header_set(expected.headers.bth.opcode) & wire::kHasAeth) != 0) {
    // An answer given again may have the MSN that it had at first, or the newest.
    std::copy_n(expected.transport.begin() + kMsnByte, kMsnBytes, ours.bytes.begin() + kMsnByte);
  }
  const bool same = std::equal(ours.bytes.begin(), ours.bytes.end(), expected.transport.begin(),
                               expected.transport.begin() + static_cast<ptrdiff_t>(length));
  if (!same) {
    if (is_spared(expected)) return;
    Captured sent;
    size_t header_bytes = 0;
    std::string text = "what was sent is no packet";
    if (wire::parse(ours.bytes, 0, sent.headers, header_bytes) == wire::ParseError::kNone) {
      sent.payload.assign(ours.bytes.begin() + static_cast<ptrdiff_t>(header_bytes),
                          ours.bytes.end() - sent.headers.bth.pad_count);
      text = "but sent " + describe(sent);
    }
    complain(expected, text);
  } else {
    uint32_t running = wire::icrc_begin(wire::outer_headers(expected.outer), ours.bytes);
    running = wire::icrc_finish(running);
    const std::byte icrc[] = {std::byte(running), std::byte(running >> 8), std::byte(running >> 16),
                              std::byte(running >> 24)};
    if (std::memcmp(icrc, expected.transport.data() + length, sizeof icrc) != 0) {
      complain(expected, "another ICRC");
    }
  }
  sent_.inbox.pop_front();
  if (last_compared_ == nullptr || distance(expected.headers.bth.psn, newest_response_) > 0) {
    newest_response_ = expected.headers.bth.psn;
  }
  last_compared_ = &expected;
}

std::vector<std::string> Replay::run() {
  Wire wire(scenario_);
  if (role_ == Role::kServer && !scenario_.receives_late) post_receives();
  for (size_t i = 0; i < capture_.packets.size(); ++i) {
    const Captured& packet = capture_.packets[i];
    if (role_ == Role::kClient && packet.number == scenario_.recovery_packet) {
      check_recovery();
      return deviations_;
    }
    const auto arrivals = wire.carry(packet);
    if (is_ours(packet)) {
      if (role_ == Role::kServer && scenario_.server_compared_to != 0 &&
          packet.number > scenario_.server_compared_to) {
        sent_.inbox.clear();
        continue;
      }
      compare(packet);
      if (deviations_.size() > 3) return deviations_;
      continue;
    }
    if (!receives_posted_ && role_ == Role::kServer && i + 1 < capture_.packets.size() &&
        capture_.packets[i + 1].headers.aeth.syndrome == wire::kSyndromeAck) {
      post_receives();  // from here on the server was ready
    }
    for (const Arrival& arrival : arrivals) arrive(arrival);
  }
  check_end();
  return deviations_;
}

void Replay::check_recovery() {
  if (wait_for_packet()) {
    for (const FlatPacket& packet : sent_.inbox) {
      wire::Headers headers;
      size_t header_bytes = 0;
      if (wire::parse(packet.bytes, 0, headers, header_bytes) == wire::ParseError::kNone &&
          headers.bth.psn.value() == scenario_.recovery_psn) {
        return;
      }
    }
  }
  deviations_.emplace_back("it did not go back to what was lost");
}

/// After a loss either end may say more often than Linux what it has said before.
void Replay::check_surplus() {
  for (const FlatPacket& packet : sent_.inbox) {
    const bool is_known = std::any_of(
        capture_.packets.begin(), capture_.packets.end(), [&](const Captured& captured) {
          return is_ours(captured) && packet.bytes.size() + 4 == captured.transport.size() &&
                 std::equal(packet.bytes.begin() + kBthBytes, packet.bytes.end(),
                            captured.transport.begin() + kBthBytes);
        });
    if (!is_known || scenario_.faults.empty()) {
      deviations_.emplace_back("a packet too many");
    }
  }
}

void Replay::check_end() {
  while (host_->engine->step(now_)) {
  }
  collect_completions();
  check_surplus();
  if (role_ == Role::kClient) {
    check_client_memory();
  } else {
    check_server_memory();
  }
}

void Replay::check_client_memory() {
  if (send_completions_.size() != scenario_.operations.size()) {
    deviations_.push_back(std::to_string(send_completions_.size()) + " operations completed");
    return;
  }
  for (uint32_t k = 0; k < scenario_.operations.size(); ++k) {
    const Operation& operation = scenario_.operations[k];
    const auto& done = send_completions_[k];
    if (done.wr_id != k || done.status != static_cast<int>(operation.status)) {
      deviations_.push_back("operation " + std::to_string(k) + " completed with status " +
                            std::to_string(done.status));
    }
    if (operation.status != WcStatus::kSuccess) continue;
    if (operation.kind == Kind::kRead &&
        !holds(slot(k), k, operation.length(scenario_.mtu_bytes))) {
      deviations_.push_back("READ " + std::to_string(k) + " fetched something else");
    }
    uint64_t value = 0;
    std::memcpy(&value, slot(k), sizeof value);
    if (is_atomic(operation.kind) && value != kAtomicValue + k) {
      deviations_.push_back("atomic " + std::to_string(k) + " fetched something else");
    }
  }
}

void Replay::check_server_memory() {
  size_t receives = 0;
  for (uint32_t k = 0; k < scenario_.operations.size(); ++k) {
    const Operation& operation = scenario_.operations[k];
    if (operation.status != WcStatus::kSuccess) continue;
    receives += takes_receive(operation.kind) ? 1 : 0;
    const bool is_write = operation.kind == Kind::kWrite || operation.kind == Kind::kWriteImmediate;
    const std::byte* at = nullptr;
    if (is_write) {
      at = slot(k);
    } else if (takes_receive(operation.kind)) {
      at = slot(kSlots + k);
    }
    const uint32_t length = operation.length(scenario_.mtu_bytes);
    if (at != nullptr && (!holds(at, k, length) || at[length] != std::byte{0xee})) {
      deviations_.push_back("operation " + std::to_string(k) + " left something else in memory");
    }
    if (is_atomic(operation.kind)) {
      uint64_t expected = kAtomicValue + k + kAddend;
      if (operation.kind == Kind::kCompareSwap) {
        expected = k % 2 == 1 ? kSwapValue : kAtomicValue + k;
      }
      uint64_t value = 0;
      std::memcpy(&value, slot(k), sizeof value);
      if (value != expected) {
        deviations_.push_back("atomic " + std::to_string(k) + " left something else in memory");
      }
    }
  }
  const auto good = std::count_if(receive_completions_.begin(), receive_completions_.end(),
                                  [](const auto& done) { return done.status == 0; });
  if (static_cast<size_t>(good) != receives) {
    deviations_.push_back(std::to_string(good) + " receives completed");
  }
}

}  // namespace flexins::interop
