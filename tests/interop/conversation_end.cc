#include "conversation_end.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "wire/headers.h"
#include "wire/mad.h"

namespace flexins::interop {
namespace {

using engine::testing::Done;
using engine::testing::FlatPacket;

constexpr size_t kMemoryOfEnd = 1 << 20;
/// No packet of a conversation is longer.
constexpr size_t kShared = 64 * 1024;

/// Applies `rename` to the communication id of the sender (or, of a service request, its number).
template <typename Rename>
void with_local_id(wire::CmBody& body, Rename rename) {
  std::visit(
      [&](auto& message) {
        if constexpr (requires { message.local_id; }) {
          rename(message.local_id);
        } else if constexpr (std::is_same_v<std::decay_t<decltype(message)>, wire::CmSidrReq>) {
          rename(message.request_id);
        }
      },
      body);
}

/// Applies `rename` to the communication id of the receiver.
template <typename Rename>
void with_remote_id(wire::CmBody& body, Rename rename) {
  std::visit(
      [&](auto& message) {
        if constexpr (requires { message.remote_id; }) {
          rename(message.remote_id);
        } else if constexpr (std::is_same_v<std::decay_t<decltype(message)>, wire::CmSidrRep>) {
          rename(message.request_id);
        }
      },
      body);
}

/// The PSN where the peer is to start was drawn.
void set_starting_psn(wire::CmBody& body, const wire::CmBody& from) {
  std::visit(
      [&](auto& message) {
        if constexpr (requires { message.starting_psn; }) {
          message.starting_psn = std::get<std::decay_t<decltype(message)>>(from).starting_psn;
        }
      },
      body);
}

std::span<std::byte, wire::kMadBytes> mad_of(std::vector<std::byte>& packet, size_t header_bytes) {
  return std::span(packet).subspan(header_bytes).first<wire::kMadBytes>();
}

}  // namespace

bool parse_management(const Captured& packet, wire::CmMessage& message) {
  return packet.headers.bth.destination.value == wire::kManagementQpn &&
         wire::parse_cm(packet.payload, message) == wire::CmParseError::kNone;
}

ConversationEnd::ConversationEnd(const Capture& capture, Role role)
    : capture_(capture), role_(role), memory_(kMemoryOfEnd, std::byte{0xee}) {
  const wire::IpAddress self = role == Role::kClient ? capture.client : capture.server;
  cm::Config config;
  for (const Captured& packet : capture.packets) {
    wire::CmMessage message;
    if (!is_ours(packet) || !parse_management(packet, message)) continue;
    std::visit(
        [&](const auto& body) {
          if constexpr (requires { body.local_ca_guid; }) config.ca_guid = body.local_ca_guid;
        },
        message.body);
  }
  manager_ = std::make_unique<cm::Manager>(config, random_);
  host_ = std::make_unique<engine::testing::Host>(7, self, this);
  host_->network.peer = &sent_;
  application_ = std::make_unique<engine::testing::Application>(*host_);
  map_memory();
  for (const auto& [qpn, agreed] : agreements()) open_queue_pair(qpn, agreed);
  if (role == Role::kServer) listen();
}

void ConversationEnd::listen() {
  wire::CmMessage first;
  wire::CmMessage answer;
  FLEXINS_CHECK(parse_management(capture_.packets.at(0), first));
  for (const Captured& packet : capture_.packets) {
    if (is_ours(packet) && parse_management(packet, answer)) break;
  }
  const auto* refusal = std::get_if<wire::CmRej>(&answer.body);
  if (refusal != nullptr && refusal->reason == wire::CmRejectReason::kInvalidServiceId) return;
  const auto* service = std::get_if<wire::CmSidrReq>(&first.body);
  const uint64_t id =
      service != nullptr ? service->service_id : std::get<wire::CmReq>(first.body).service_id;
  FLEXINS_CHECK(manager_->listen(id, wire::IpAddress{}, 8).ok());
}

void ConversationEnd::map_memory() {
  // Where the other end's requests say that it lies; anywhere, where they name none.
  base_address_ = UINT64_MAX / 2;
  for (const Captured& packet : capture_.packets) {
    const bool names = (wire::header_set(packet.headers.bth.opcode) & wire::kHasReth) != 0;
    if (!names || is_ours(packet)) continue;
    base_address_ = std::min(base_address_, packet.headers.reth.address);
  }
  used_ = kShared;
  memory::Region region;
  region.pd = application_->pd;
  region.address = base_address_;
  region.window_base = reinterpret_cast<uint64_t>(memory_.data());
  region.length = memory_.size();
  region.access = base::kAccessLocalWrite | base::kAccessRemoteWrite | base::kAccessRemoteRead;
  region.window = std::make_unique<engine::testing::DirectWindow>();
  key_ = host_->engine->register_region(application_->context, std::move(region)).value();
}

size_t ConversationEnd::reserve(size_t bytes) {
  FLEXINS_CHECK(used_ + bytes <= memory_.size());
  const size_t offset = used_;
  used_ += bytes;
  return offset;
}

bool ConversationEnd::on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
                             std::span<const std::byte> mad) noexcept {
  manager_->on_mad(source, destination, mad, now_);
  return true;
}

void ConversationEnd::cause(const Captured& packet) {
  wire::CmMessage message;
  if (parse_management(packet, message)) {
    call_manager(message);
  } else {
    post(packet);
  }
  settle();
}

void ConversationEnd::deliver(const Captured& packet) {
  FlatPacket flat;
  flat.source = packet.outer.source;
  flat.destination = packet.outer.destination;
  flat.bytes.assign(packet.transport.begin(), packet.transport.end() - 4);  // without the ICRC
  wire::Headers headers = packet.headers;
  const size_t header_bytes = wire::header_bytes(headers.bth.opcode);
  wire::CmMessage message;
  if (parse_management(packet, message)) {
    with_remote_id(message.body, [&](uint32_t& id) { id = ids_.contains(id) ? ids_[id] : id; });
    if (const auto ours = transactions_.find(message.transaction); ours != transactions_.end()) {
      message.transaction = ours->second;
    }
    wire::emit_cm(message, mad_of(flat.bytes, header_bytes));
  } else {
    QueuePair& qp = qps_.at(headers.bth.destination.value);
    headers.bth.destination = qp.endpoint.qpn;
    headers.reth.key = key_.value;
    if (headers.bth.opcode == wire::Opcode::kRcReadRequest) place_read_answer(packet);
    const bool takes_receive = headers.bth.opcode == wire::Opcode::kRcSendOnly ||
                               headers.bth.opcode == wire::Opcode::kUdSendOnlyImmediate;
    if (takes_receive) {
      const uint64_t wr_id = qp.next_receive++;
      expected_[wr_id] = {receive_offsets_.at(wr_id), packet.payload};
    }
  }
  wire::emit(headers, flat.bytes);
  host_->network.inbox.push_back(std::move(flat));
  settle();
  if (headers.bth.opcode == wire::Opcode::kRcWriteOnly &&
      !lies_at(headers.reth.address - base_address_, packet.payload)) {
    complaints_.push_back(describe(packet) + " was written elsewhere or not at all");
  }
}

bool ConversationEnd::lies_at(size_t offset, const std::vector<std::byte>& bytes) const {
  return offset + bytes.size() <= memory_.size() &&
         std::equal(bytes.begin(), bytes.end(), memory_.begin() + static_cast<ptrdiff_t>(offset));
}

void ConversationEnd::settle() {
  for (bool moved = true; moved;) {
    moved = host_->engine->step(now_);
    for (cm::OutgoingMad mad; manager_->next_mad(mad); moved = true) {
      wire::Path path;
      path.source = mad.path.local;
      path.destination = mad.path.remote;
      FLEXINS_CHECK(host_->engine->send_mad(path, mad.bytes, now_).ok());
    }
    for (cm::Event event; manager_->next_event(event); moved = true) {
      if (const auto* req = std::get_if<wire::CmReq>(&event.body)) {
        requests_[req->local_id] = event.connection;
      } else if (const auto* service = std::get_if<wire::CmSidrReq>(&event.body)) {
        requests_[service->request_id] = event.connection;
      }
    }
    for (Done done = application_->poll(); done.status >= 0; done = application_->poll()) {
      completions_[done.wr_id] = done;
    }
  }
}

void ConversationEnd::rename(const Captured& expected, std::vector<std::byte>& packet) {
  wire::Headers headers;
  size_t header_bytes = 0;
  if (wire::parse(packet, 0, headers, header_bytes) != wire::ParseError::kNone) return;
  if (headers.bth.opcode != expected.headers.bth.opcode) return;
  wire::CmMessage was;
  if (parse_management(expected, was)) {
    headers.bth.psn = expected.headers.bth.psn;  // of a queue pair that serves everybody
    wire::CmMessage message;
    if (wire::parse_cm(mad_of(packet, header_bytes), message) != wire::CmParseError::kNone ||
        message.body.index() != was.body.index()) {
      return;
    }
    uint32_t captured_id = 0;
    with_local_id(was.body, [&](uint32_t& id) { captured_id = id; });
    with_local_id(message.body, [&](uint32_t& id) {
      if (ids_.emplace(captured_id, id).first->second == id) id = captured_id;
    });
    set_starting_psn(message.body, was.body);
    if (transactions_.emplace(was.transaction, message.transaction).first->second ==
        message.transaction) {
      message.transaction = was.transaction;
    }
    wire::emit_cm(message, mad_of(packet, header_bytes));
  }
  const auto qp = qps_.find(expected.headers.deth.source.value);
  if (qp != qps_.end() && headers.deth.source == qp->second.endpoint.qpn) {
    headers.deth.source = expected.headers.deth.source;
  }
  // When to ask for an acknowledgement is the requester's choice.
  headers.bth.ack_request = expected.headers.bth.ack_request;
  wire::emit(headers, packet);
}

void ConversationEnd::check_outcome(std::vector<std::string>& deviations) {
  deviations.insert(deviations.end(), complaints_.begin(), complaints_.end());
  for (const auto& [wr_id, expected] : expected_) {
    const auto done = completions_.find(wr_id);
    if (done == completions_.end()) {
      deviations.push_back("request " + std::to_string(wr_id) + " did not complete");
    } else if (done->second.status != 0) {
      deviations.push_back("request " + std::to_string(wr_id) + " failed with " +
                           std::to_string(done->second.status));
    } else if (!lies_at(expected.offset, expected.bytes)) {
      deviations.push_back("request " + std::to_string(wr_id) + " brought other bytes");
    }
  }
  if (manager_->counters().drop_malformed + manager_->counters().drop_wrong_state +
          manager_->counters().drop_unknown_id + manager_->counters().retransmitted !=
      0) {
    deviations.emplace_back("the communication manager has dropped or repeated something");
  }
}

}  // namespace flexins::interop
