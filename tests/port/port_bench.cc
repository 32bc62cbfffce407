#include <benchmark/benchmark.h>

#include <algorithm>

#include "port/local_port.h"
#include "support.h"

/// What a packet costs from transmit to receive, both ends in one thread. Not a test:
/// `port_bench --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true`.

namespace flexins::port::testing {
namespace {

/// Sends `train` packets, each from another place of `working_set` bytes, and receives them.
void exchange_trains(benchmark::State& state, Port& from, Port& to, uint32_t length, size_t train,
                     size_t working_set) {
  std::vector<std::byte> memory(working_set, std::byte{1});
  Burst burst({.source = loopback(0), .destination = loopback(1)});
  for (uint32_t psn = 0; psn < train; ++psn) burst.add(psn, length);
  std::vector<wire::RxPacket> received(256);
  size_t at = 0;
  uint64_t packets = 0;
  for (auto _ : state) {
    for (wire::TxPacket& packet : burst.span()) {
      packet.pieces[0].iov_base = memory.data() + at;
      at += 4096;
      if (at + 4096 > working_set) at = 0;
    }
    size_t sent = 0;
    for (size_t got = 0; got < train;) {
      if (sent < train) sent += from.transmit(burst.span().subspan(sent), 0);
      got += to.receive(received, 0);
    }
    packets += train;
  }
  state.SetItemsProcessed(static_cast<int64_t>(packets));
  state.SetBytesProcessed(static_cast<int64_t>(packets * length));
}

void udp(benchmark::State& state, uint32_t copy_payload_bytes) {
  const auto length = static_cast<uint32_t>(state.range(0));
  const size_t train = std::min<size_t>(64, 65000 / (length + 16));
  UdpPortConfig config;
  config.copy_payload_bytes = copy_payload_bytes;
  config.icrc = state.range(1) != 0;
  config.addresses = {loopback(0)};
  auto from = UdpPort::open(config);
  config.addresses = {loopback(1)};
  auto to = UdpPort::open(config);
  if (!from || !to) {
    state.SkipWithError("cannot open the ports");
    return;
  }
  exchange_trains(state, **from, **to, length, train, static_cast<size_t>(state.range(2)) << 20);
}

void BM_UdpCopied(benchmark::State& state) { udp(state, wire::kMaxMtuBytes); }
void BM_UdpReferenced(benchmark::State& state) { udp(state, 0); }
void arguments(benchmark::internal::Benchmark* of) {
  of->ArgNames({"bytes", "icrc", "MiB"});
  for (const int bytes : {64, 256, 512, 1024, 2048, 4096}) {
    for (const int icrc : {0, 1}) {
      for (const int mebibytes : {1, 32}) of->Args({bytes, icrc, mebibytes});
    }
  }
}
BENCHMARK(BM_UdpCopied)->Apply(arguments);
BENCHMARK(BM_UdpReferenced)->Apply(arguments);

void BM_UdpLone(benchmark::State& state) {
  UdpPortConfig config;
  config.addresses = {loopback(0)};
  auto from = UdpPort::open(config);
  config.addresses = {loopback(1)};
  auto to = UdpPort::open(config);
  exchange_trains(state, **from, **to, static_cast<uint32_t>(state.range(0)), 1, 1 << 20);
}
BENCHMARK(BM_UdpLone)->Arg(64)->Arg(4096);

void BM_Local(benchmark::State& state) {
  LocalPort port;
  exchange_trains(state, port, port, 4096, 16, 1 << 20);
}
BENCHMARK(BM_Local);

}  // namespace
}  // namespace flexins::port::testing
