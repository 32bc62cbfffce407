#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "cm/manager.h"
#include "wire/ip_cm.h"

/// Any management datagrams, thrown at a manager with a listener and connections in several states:
/// nothing may crash, tables stay bounded, and what parses must come out the same again.

namespace flexins::cm {
namespace {

/// Small numbers, so that the fuzzer can guess communication ids.
class Counting final : public base::RandomSource {
 public:
  uint64_t next() noexcept override { return ++last_; }

 private:
  uint64_t last_ = 0;
};

void try_message(std::span<const std::byte> mad) {
  wire::CmMessage message;
  if (wire::parse_cm(mad, message) != wire::CmParseError::kNone) return;
  std::array<std::byte, wire::kMadBytes> again;
  wire::emit_cm(message, again);
  wire::CmMessage second;
  FLEXINS_CHECK(wire::parse_cm(again, second) == wire::CmParseError::kNone);
  FLEXINS_CHECK(message == second);
  const auto* req = std::get_if<wire::CmReq>(&message.body);
  wire::IpCmHeader header;
  if (req == nullptr || !wire::parse_ip_cm(req->private_data, header)) return;
  std::array<uint8_t, wire::kIpCmHeaderBytes> bytes;
  wire::emit_ip_cm(header, bytes);
  wire::IpCmHeader other;
  FLEXINS_CHECK(wire::parse_ip_cm(bytes, other) && other == header);
}

void drain(Manager& manager, base::TimeNs now) {
  OutgoingMad mad;
  while (manager.next_mad(mad)) {
  }
  Event event;
  while (manager.next_event(event)) {
    // Answers as an application might, by what the connection's number happens to be.
    const uint32_t choice = event.connection.value % 4;
    AcceptReply reply;
    reply.local_qpn = 1;
    if (choice == 0) static_cast<void>(manager.accept(event.connection, reply, now));
    if (choice == 1) static_cast<void>(manager.reject(event.connection, {}, now));
    if (choice == 2) static_cast<void>(manager.ready(event.connection, now));
    if (choice == 3) manager.release(event.connection, now);
    manager.request_taken(event.listener);
  }
}

void try_manager(std::span<const std::byte> bytes) {
  Config config;
  config.connections_max = 32;
  config.retries_max = 2;
  Counting random;
  Manager manager(config, random);
  base::TimeNs now = 0;
  const auto a = wire::IpAddress::from_v4("\x0a\0\0\x01");
  const auto b = wire::IpAddress::from_v4("\x0a\0\0\x02");
  static_cast<void>(manager.listen(wire::ip_cm_service_id(wire::IpCmSpace::kTcp, 1), {}, 4));
  ConnectRequest request;
  request.path.local = a;
  request.path.remote = b;
  static_cast<void>(manager.connect(request, now));
  static_cast<void>(manager.resolve_service(request.path, 1, {}, now));
  drain(manager, now);
  while (bytes.size() > 1) {
    // One byte says how long until this datagram, and from whom.
    const auto head = std::to_integer<uint8_t>(bytes[0]);
    now += base::TimeNs{head} * 10 * base::kMillisecond;
    const size_t length = std::min(bytes.size() - 1, wire::kMadBytes);
    manager.on_deadline(now);
    manager.on_mad((head & 1) != 0 ? a : b, a, bytes.subspan(1, length), now);
    drain(manager, now);
    FLEXINS_CHECK(manager.connections() <= config.connections_max);
    bytes = bytes.subspan(1 + length);
  }
}

}  // namespace
}  // namespace flexins::cm

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  flexins::cm::try_message(bytes);
  flexins::cm::try_manager(bytes);
  return 0;
}
