#include <rdma/rdma_user_cm.h>

#include "base/check.h"
#include "daemon/cm_service.h"
#include "input.h"

/// Any commands of rdma_cm on two channels of one engine, whose datagrams come back to it. Nothing
/// may crash; when the channels are closed and time has passed, nothing is left.

namespace flexins::daemon {
namespace {

using fuzz::Input;

constexpr uint32_t kCommands = RDMA_USER_CM_CMD_JOIN_MCAST + 1;
constexpr size_t kCommandBytesMax = 1024;

class NoRoutes final : public RouteFinder {
 public:
  base::Result<wire::IpAddress> source_for(const wire::IpAddress& destination) override {
    // So that each input has destinations that cannot be reached.
    if ((destination.bytes[15] & 1) != 0) return base::Error{ENETUNREACH, "no route"};
    return wire::IpAddress{};
  }
};

class Machine {
 public:
  Machine() : service_(config(), random_, routes_, [](CmChannel&) {}) {
    for (CmChannel*& channel : channels_) channel = service_.open_channel(1000).value();
  }

  void command(Input& input) {
    const uint8_t head = input.byte();
    // What a command does not bring is zero.
    std::vector<std::byte> bytes(kCommandBytesMax);
    const auto given = input.take(input.byte());
    std::copy(given.begin(), given.end(), bytes.begin());
    if ((head & 0x80) != 0) bytes.resize(given.size());
    const uint64_t other = channels_[1 - (head & 1)]->secret;
    static_cast<void>(
        service_.command(*channels_[head & 1], (head >> 1 & 0x3f) % kCommands, bytes, other, now_));
    now_ += base::TimeNs{input.byte()} * 20 * base::kMillisecond;
    exchange();
  }

  void finish() {
    for (CmChannel* channel : channels_) service_.close_channel(*channel, now_);
    exchange();
    for (int i = 0; i < 10'000 && service_.next_deadline() != base::kNever; ++i) {
      now_ = std::max(now_, service_.next_deadline());
      exchange();
    }
    const CmCounts left = service_.counts();
    FLEXINS_CHECK(left.channels == 0 && left.ids == 0 && left.listeners == 0);
    FLEXINS_CHECK(left.connections == 0);
  }

 private:
  static CmServiceConfig config() {
    CmServiceConfig config;
    const uint8_t octets[4] = {127, 0, 0, 1};
    config.addresses = {{wire::IpAddress::from_v4(octets), "lo", 1024}};
    return config;
  }

  void exchange() {
    service_.on_deadline(now_);
    cm::OutgoingMad mad;
    while (service_.next_mad(mad)) {
      service_.on_mad(mad.path.local, mad.path.remote, mad.bytes, now_);
    }
  }

  fuzz::Counting random_;
  NoRoutes routes_;
  CmService service_;
  CmChannel* channels_[2];
  base::TimeNs now_ = base::kSecond;
};

}  // namespace
}  // namespace flexins::daemon

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  flexins::fuzz::Input input(std::as_bytes(std::span(data, size)));
  flexins::daemon::Machine machine;
  while (!input.empty()) machine.command(input);
  machine.finish();
  return 0;
}
