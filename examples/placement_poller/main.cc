#include <getopt.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "common/memory.h"
#include "common/peer.h"

/// Does the last byte of a WRITE ever come before the rest? Many programs rely on it that it does
/// not, ib_write_lat among them: they watch the last byte instead of the completion queue.

namespace {

using example::fail;

constexpr uint64_t kOffsets = 64;  // of the message in its buffer, so that alignments vary

struct Options {
  example::Settings settings;
  uint64_t rounds = 100'000;
  uint64_t size_max = 9000;
  std::string memory = "anonymous";
};

constexpr char kUsage[] =
    "placement_poller [OPTIONS] [HOST]    without HOST: the server, which watches\n"
    "  --rounds N         WRITEs to watch (default 100000); the client's counts\n"
    "  --size-max BYTES   they are 1 … BYTES long, in turn (default 9000); the client's counts\n"
    "  --memory KIND      malloc, anonymous (default) or shared\n"
    "  --device NAME, --gid INDEX, --port PORT, --timeout S    as for integrity\n";

Options parse(int argc, char** argv) {
  static const option kOptions[] = {{"rounds", required_argument, nullptr, 'n'},
                                    {"size-max", required_argument, nullptr, 'z'},
                                    {"memory", required_argument, nullptr, 'm'},
                                    {"device", required_argument, nullptr, 'd'},
                                    {"gid", required_argument, nullptr, 'x'},
                                    {"port", required_argument, nullptr, 'p'},
                                    {"timeout", required_argument, nullptr, 't'},
                                    {"help", no_argument, nullptr, 'h'},
                                    {nullptr, 0, nullptr, 0}};
  Options options;
  for (int found = 0; (found = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    switch (found) {
      case 'n': options.rounds = strtoull(optarg, nullptr, 0); break;
      case 'z': options.size_max = strtoull(optarg, nullptr, 0); break;
      case 'm': options.memory = optarg; break;
      case 'd': options.settings.device = optarg; break;
      case 'x': options.settings.gid_index = atoi(optarg); break;
      case 'p': options.settings.tcp_port = static_cast<uint16_t>(atoi(optarg)); break;
      case 't': options.settings.timeout_seconds = strtod(optarg, nullptr); break;
      case 'h': fputs(kUsage, stdout); exit(0);
      default: fputs(kUsage, stderr); exit(2);
    }
  }
  if (optind < argc) options.settings.host = argv[optind];
  return options;
}

example::Source source_of(const std::string& name) {
  for (const example::Source source : example::kSources) {
    if (to_string(source) == name) return source;
  }
  fail("no such kind of memory: %s", name.c_str());
}

/// What round `round` sends: `size` times the same byte, never 0.
struct Message {
  Message(uint64_t round, uint64_t size_max)
      : offset(round * 7 % kOffsets),
        size(round % size_max + 1),
        value(static_cast<unsigned char>(round % 255 + 1)) {}
  uint64_t offset;
  uint64_t size;
  unsigned char value;
};

/// Spins until `*byte` is `value`. Now and then the core goes to whoever else wants it: the engine
/// may have no other.
template <typename T>
void watch(const T* place, T value, double timeout_seconds) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration<double>(timeout_seconds);
  const volatile T* watched = place;
  for (uint64_t spins = 1; *watched != value; ++spins) {
    if (spins % 256 != 0) continue;
    sched_yield();
    if (Clock::now() > deadline) fail("nothing came for %.0f s", timeout_seconds);
  }
  std::atomic_thread_fence(std::memory_order_acquire);
}

class Poller {
 public:
  Poller(const Options& options, const example::Socket& socket)
      : options_(options),
        memory_(source_of(options.memory), kOffsets + options.size_max + 4096),
        connection_(options.settings, socket),
        region_(connection_.share(memory_.data(), memory_.bytes())),
        remote_(socket.exchange(example::RemoteMemory{reinterpret_cast<uint64_t>(memory_.data()),
                                                      memory_.bytes(), region_->rkey, 0})) {}

  /// The server: waits for each WRITE's last byte, then looks at the rest at once.
  uint64_t serve() {
    auto* bytes = reinterpret_cast<unsigned char*>(memory_.data());
    uint64_t early = 0;
    uint64_t acknowledgement = 0;
    for (uint64_t round = 0; round < options_.rounds; ++round) {
      const Message message(round, options_.size_max);
      unsigned char* first = bytes + message.offset;
      watch(first + message.size - 1, message.value, options_.settings.timeout_seconds);
      const volatile unsigned char* seen = first;
      for (uint64_t i = 0; i < message.size; ++i) {
        if (seen[i] == message.value) continue;
        if (++early <= 10) {
          printf("round %lu: of %lu bytes the last was there before byte %lu\n", round,
                 message.size, i);
        }
        // The rest is on its way: do not mistake it for the next round's.
        watch(first + i, message.value, options_.settings.timeout_seconds);
      }
      memset(first, 0, message.size);
      acknowledgement = round + 1;
      write(&acknowledgement, sizeof(acknowledgement), 0, IBV_SEND_INLINE);
    }
    return early;
  }

  /// The client: sends a WRITE, waits until the server has looked at it.
  void send() {
    auto* bytes = reinterpret_cast<unsigned char*>(memory_.data());
    const auto* acknowledged = reinterpret_cast<const uint64_t*>(bytes);
    unsigned char* source = bytes + 4096;
    for (uint64_t round = 0; round < options_.rounds; ++round) {
      const Message message(round, options_.size_max);
      memset(source, message.value, message.size);
      write(source, message.size, message.offset, 0);
      watch(acknowledged, round + 1, options_.settings.timeout_seconds);
    }
  }

 private:
  void write(void* from, uint64_t size, uint64_t to_offset, unsigned flags) {
    ibv_sge piece = {reinterpret_cast<uint64_t>(from), static_cast<uint32_t>(size), region_->lkey};
    ibv_send_wr request = {};
    request.sg_list = &piece;
    request.num_sge = 1;
    request.opcode = IBV_WR_RDMA_WRITE;
    request.send_flags = flags | IBV_SEND_SIGNALED;
    request.wr.rdma.remote_addr = remote_.address + to_offset;
    request.wr.rdma.rkey = remote_.rkey;
    connection_.post_send(&request);
    (void)connection_.wait();
  }

  const Options& options_;
  example::Memory memory_;
  example::Connection connection_;
  ibv_mr* region_;
  example::RemoteMemory remote_;
};

}  // namespace

int main(int argc, char** argv) {
  Options options = parse(argc, argv);
  const bool is_client = !options.settings.host.empty();
  const example::Socket socket(options.settings.host, options.settings.tcp_port);
  const uint64_t theirs[2] = {socket.exchange(options.rounds), socket.exchange(options.size_max)};
  if (!is_client) {
    options.rounds = theirs[0];
    options.size_max = theirs[1];
  }
  if (options.size_max == 0) fail("--size-max must be at least 1");

  Poller poller(options, socket);
  uint64_t early = 0;
  if (is_client) {
    poller.send();
  } else {
    early = poller.serve();
  }
  early += socket.exchange(early);
  printf("%lu WRITEs of 1 to %lu bytes: the last byte came before the rest %lu times\n",
         options.rounds, options.size_max, early);
  return early == 0 ? 0 : 1;
}
