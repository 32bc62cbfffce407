/// Moves WRITEs of 1 MiB (4 KiB packets) between two engines in one thread and
/// virtual time, for counting instructions: `valgrind --tool=callgrind --collect-atstart=no
/// bin/replay tx|rx`. Collected is the step of the sending (tx) or receiving (rx) engine, without
/// the ports: the transport, the rings, placement. Prints the number of data packets.

#include <valgrind/callgrind.h>

#include <cstdio>
#include <cstring>
#include <string_view>

#include "../tests/engine/harness.h"

namespace {

using namespace flexins;
using namespace flexins::engine::testing;

constexpr uint32_t kMessageBytes = 1 << 20;
constexpr uint32_t kPacketBytes = 4096;
constexpr uint32_t kMessages = 32;

/// Leaves its own work out of what is collected.
class UncountedPort final : public port::Port {
 public:
  explicit UncountedPort(QueuePort& inner) : inner_(inner) {}
  bool counting = false;

  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept override {
    const Pause pause(counting);
    return inner_.transmit(burst, now);
  }
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept override {
    const Pause pause(counting);
    return inner_.receive(burst, now);
  }
  [[nodiscard]] port::Capabilities capabilities() const override { return inner_.capabilities(); }
  [[nodiscard]] std::vector<port::Counter> counters() const override { return {}; }
  [[nodiscard]] std::string_view name() const override { return "uncounted"; }

 private:
  struct Pause {
    explicit Pause(bool active) : active_(active) {
      if (active_) CALLGRIND_TOGGLE_COLLECT;
    }
    ~Pause() {
      if (active_) CALLGRIND_TOGGLE_COLLECT;
    }
    bool active_;
  };
  QueuePort& inner_;
};

struct CountedHost {
  explicit CountedHost(uint8_t number) : host(number), port(host.network) {
    engine::EngineConfig config;
    config.addresses = {{host.address, "test0", 4096}};
    config.local = &host.local;
    config.network = &port;
    config.random = &host.random;
    host.engine = engine::Engine::create(config);
  }
  bool step(bool counted, base::TimeNs now) {
    port.counting = counted;
    if (counted) CALLGRIND_TOGGLE_COLLECT;
    const bool worked = host.engine->step(now);
    if (counted) CALLGRIND_TOGGLE_COLLECT;
    return worked;
  }
  Host host;
  UncountedPort port;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view side = argc > 1 ? argv[1] : "";
  if (side != "tx" && side != "rx") {
    std::fprintf(stderr, "usage: replay tx|rx\n");
    return 2;
  }
  CountedHost a(1);
  CountedHost b(2);
  a.host.network.peer = &b.host.network;
  b.host.network.peer = &a.host.network;
  Application client(a.host);
  Application server(b.host);
  Endpoint left = client.create_qp();
  Endpoint right = server.create_qp();
  client.connect(left, b.host.address, right.qpn, 5);
  server.connect(right, a.host.address, left.qpn, 5);
  std::vector<std::byte> source(kMessageBytes, std::byte{0x5a});
  std::vector<std::byte> sink(kMessageBytes);
  const auto from = client.register_memory(source.data(), source.size());
  const auto to = server.register_memory(sink.data(), sink.size());

  for (uint32_t i = 0; i < kMessages; ++i) {
    client.post(left.qpn, base::WrOpcode::kRdmaWrite,
                {reinterpret_cast<uint64_t>(source.data()), kMessageBytes, from.value},
                reinterpret_cast<uint64_t>(sink.data()), to.value, i);
    while (static_cast<int>(a.step(side == "tx", 0)) + static_cast<int>(b.step(side == "rx", 0))) {
    }
    if (client.poll().status != 0) {
      std::fprintf(stderr, "replay: a WRITE did not complete\n");
      return 1;
    }
  }
  if (std::memcmp(source.data(), sink.data(), kMessageBytes) != 0) {
    std::fprintf(stderr, "replay: the data differ\n");
    return 1;
  }
  std::printf("%u\n", kMessages * (kMessageBytes / kPacketBytes));
  return 0;
}
