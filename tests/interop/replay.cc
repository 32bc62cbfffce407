#include "replay.h"

#include <algorithm>

#include "base/byte_order.h"
#include "wire/icrc.h"

namespace flexins::interop {
namespace {

using engine::testing::FlatPacket;

constexpr int kExpiriesMax = 32;  ///< of timers, before a packet counts as missing
constexpr size_t kDeviationsMax = 4;
constexpr size_t kIcrcBytes = 4;
constexpr size_t kBthBytes = 12;
constexpr size_t kBthFlagsByte = 8;
constexpr std::byte kAckRequest{0x80};
constexpr size_t kMsnByte = 13;  ///< of an answer: behind BTH and syndrome
constexpr size_t kMsnBytes = 3;
constexpr size_t kDethSourceByte = 16;  ///< behind BTH and Q_Key

/// The packet without its ICRC.
std::span<const std::byte> body(const Captured& packet) {
  return std::span(packet.transport).first(packet.transport.size() - kIcrcBytes);
}

std::string describe_bytes(const std::vector<std::byte>& bytes) {
  Captured packet;
  size_t header_bytes = 0;
  if (wire::parse(bytes, 0, packet.headers, header_bytes) != wire::ParseError::kNone) {
    return "something that is no packet";
  }
  packet.payload.assign(bytes.begin() + static_cast<ptrdiff_t>(header_bytes),
                        bytes.end() - packet.headers.bth.pad_count);
  return describe(packet);
}

}  // namespace

std::vector<std::string> Replay::run() {
  Wire wire(scenario_);
  const bool is_server = end_.role() == Role::kServer;
  bool has_receives = !is_server || !scenario_.receives_late;
  if (is_server && has_receives) end_.post_receives();
  for (size_t i = 0; i < capture_.packets.size(); ++i) {
    const Captured& packet = capture_.packets[i];
    if (!is_server && packet.number == scenario_.recovery_packet) {
      check_recovery();
      return deviations_;
    }
    const auto arrivals = wire.carry(packet);
    if (!is_ours(packet)) {
      if (!has_receives && i + 1 < capture_.packets.size() &&
          capture_.packets[i + 1].headers.aeth.syndrome == wire::kSyndromeAck) {
        end_.post_receives();  // from here on the server was ready
        has_receives = true;
      }
      for (const Arrival& arrival : arrivals) arrive(arrival);
    } else if (is_server && scenario_.server_compared_to != 0 &&
               packet.number > scenario_.server_compared_to) {
      end_.sent().clear();
    } else {
      compare(packet);
      if (deviations_.size() >= kDeviationsMax) return deviations_;
    }
  }
  end_.settle();
  check_surplus();
  end_.check_outcome(deviations_);
  return deviations_;
}

void Replay::arrive(const Arrival& arrival) {
  const wire::OuterHeaders outer = wire::outer_headers(arrival.packet->outer);
  uint16_t identification = 0;
  if (wire::icrc_check(outer, arrival.transport, identification) != wire::IcrcVerdict::kExact) {
    return;  // as a port would
  }
  FlatPacket packet;
  packet.bytes.assign(arrival.transport.begin(), arrival.transport.end() - kIcrcBytes);
  packet.source = outer.source;
  packet.destination = outer.destination;
  end_.deliver(std::move(packet));
}

bool Replay::wait_for_packet() {
  for (int expiries = 0; expiries < kExpiriesMax;) {
    end_.settle();
    if (!end_.sent().empty()) return true;
    if (end_.post_next()) continue;
    if (!end_.wait()) return false;
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
         std::ranges::equal(body(expected), body(*last_compared_));
}

/// Takes over what either end may choose.
void Replay::set_free_bits(const Captured& expected, std::vector<std::byte>& bytes) const {
  if (bytes.size() != body(expected).size()) return;
  // When to ask for an acknowledgement within a message is the requester's choice.
  bytes[kBthFlagsByte] =
      (bytes[kBthFlagsByte] & ~kAckRequest) | (expected.transport[kBthFlagsByte] & kAckRequest);
  // A datagram names its sender, whose number the engine has drawn itself.
  const bool is_datagram = (wire::header_set(expected.headers.bth.opcode) & wire::kHasDeth) != 0;
  if (is_datagram && base::load_be<uint32_t>(&bytes[kDethSourceByte]) == end_.qpn().value) {
    base::store_be(&bytes[kDethSourceByte], expected.headers.deth.source.value);
  }
  const bool is_answer = (wire::header_set(expected.headers.bth.opcode) & wire::kHasAeth) != 0;
  const bool repeats =
      last_compared_ != nullptr && distance(expected.headers.bth.psn, newest_psn_) <= 0;
  if (is_answer && repeats) {
    // An answer given again may have the MSN that it had at first, or the newest.
    std::copy_n(expected.transport.begin() + kMsnByte, kMsnBytes, bytes.begin() + kMsnByte);
  }
}

void Replay::compare(const Captured& expected) {
  if (!wait_for_packet()) {
    if (!is_spared(expected)) complain(expected, "nothing was sent");
    return;
  }
  std::vector<std::byte>& bytes = end_.sent().front().bytes;
  set_free_bits(expected, bytes);
  if (std::ranges::equal(bytes, body(expected))) {
    check_icrc(expected, bytes);
  } else if (is_spared(expected)) {
    return;
  } else {
    complain(expected, "but sent " + describe_bytes(bytes));
  }
  end_.sent().pop_front();
  if (last_compared_ == nullptr || distance(expected.headers.bth.psn, newest_psn_) > 0) {
    newest_psn_ = expected.headers.bth.psn;
  }
  last_compared_ = &expected;
}

void Replay::check_icrc(const Captured& expected, const std::vector<std::byte>& bytes) {
  const uint32_t icrc =
      wire::icrc_finish(wire::icrc_begin(wire::outer_headers(expected.outer), bytes));
  for (size_t i = 0; i < kIcrcBytes; ++i) {
    if (expected.transport[bytes.size() + i] != static_cast<std::byte>(icrc >> 8 * i & 0xff)) {
      complain(expected, "another ICRC");
      return;
    }
  }
}

void Replay::check_recovery() {
  if (wait_for_packet()) {
    for (const FlatPacket& packet : end_.sent()) {
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
  for (const FlatPacket& packet : end_.sent()) {
    const std::span<const std::byte> rest = std::span(packet.bytes).subspan(kBthBytes);
    const bool is_known =
        std::any_of(capture_.packets.begin(), capture_.packets.end(), [&](const Captured& one) {
          return is_ours(one) && std::ranges::equal(rest, body(one).subspan(kBthBytes));
        });
    if (!is_known || scenario_.faults.empty()) deviations_.emplace_back("a packet too many");
  }
}

}  // namespace flexins::interop
