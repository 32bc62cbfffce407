#include <getopt.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "integrity/session.h"

/// Moves random messages both ways between two programs and checks every byte; see ../README.md.

namespace {

using integrity::Kind;

struct Options {
  example::Settings settings;
  integrity::Orders orders;
  double seconds = 5;
  uint64_t operations = 0;  ///< 0: by time
};

constexpr char kUsage[] =
    "integrity [OPTIONS] [HOST]    without HOST: the server; its options are the client's\n"
    "  --seconds S        play for so long (default 5)\n"
    "  --operations N     play until both sides have posted N operations together\n"
    "  --seed N           the same seed moves the same bytes (default 1)\n"
    "  --size-max BYTES   of an ordinary message (default 1 MiB); one in a hundred is up to 8\n"
    "                     times as long\n"
    "  --transport uc     over an unreliable connection; the path must lose nothing\n"
    "  --srq              take receives from a shared receive queue\n"
    "  --events           sleep on a completion channel instead of polling\n"
    "  --device NAME      RDMA device (default: the first)\n"
    "  --gid INDEX        GID to send from (default: the first IPv4 one)\n"
    "  --port PORT        TCP port for the exchange of addresses (default 18515)\n"
    "  --timeout S        give up when nothing completes for so long (default 60)\n";

Options parse(int argc, char** argv) {
  static const option kOptions[] = {{"seconds", required_argument, nullptr, 's'},
                                    {"operations", required_argument, nullptr, 'n'},
                                    {"seed", required_argument, nullptr, 'r'},
                                    {"size-max", required_argument, nullptr, 'z'},
                                    {"device", required_argument, nullptr, 'd'},
                                    {"gid", required_argument, nullptr, 'x'},
                                    {"port", required_argument, nullptr, 'p'},
                                    {"timeout", required_argument, nullptr, 't'},
                                    {"transport", required_argument, nullptr, 'u'},
                                    {"srq", no_argument, nullptr, 'q'},
                                    {"events", no_argument, nullptr, 'e'},
                                    {"help", no_argument, nullptr, 'h'},
                                    {nullptr, 0, nullptr, 0}};
  Options options;
  for (int found = 0; (found = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    switch (found) {
      case 's': options.seconds = strtod(optarg, nullptr); break;
      case 'n': options.operations = strtoull(optarg, nullptr, 0); break;
      case 'r': options.orders.seed = strtoull(optarg, nullptr, 0); break;
      case 'z': options.orders.size_max = strtoull(optarg, nullptr, 0); break;
      case 'd': options.settings.device = optarg; break;
      case 'x': options.settings.gid_index = atoi(optarg); break;
      case 'p': options.settings.tcp_port = static_cast<uint16_t>(atoi(optarg)); break;
      case 't': options.settings.timeout_seconds = strtod(optarg, nullptr); break;
      case 'e': options.settings.use_events = true; break;
      case 'u':
        options.orders.unreliable = std::string(optarg) == "uc" ? 1 : 0;
        if (options.orders.unreliable == 0 && std::string(optarg) != "rc") {
          fputs(kUsage, stderr);
          exit(2);
        }
        break;
      case 'q': options.orders.use_srq = 1; break;
      case 'h': fputs(kUsage, stdout); exit(0);
      default: fputs(kUsage, stderr); exit(2);
    }
  }
  if (optind < argc) options.settings.host = argv[optind];
  options.orders.large_max = 8 * options.orders.size_max;
  return options;
}

void print_totals(const integrity::Totals& totals, uint64_t seed) {
  printf("%-22s %12s %16s\n", "posted by this side", "operations", "bytes");
  for (size_t i = 0; i < integrity::kKinds; ++i) {
    printf("%-22s %12lu %16lu\n", to_string(static_cast<Kind>(i)).data(), totals.operations[i],
           totals.bytes[i]);
  }
  printf("%lu rounds with seed %lu: every byte is right\n", totals.rounds, seed);
}

uint64_t sum(const uint64_t (&values)[integrity::kKinds]) {
  uint64_t total = 0;
  for (const uint64_t value : values) total += value;
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  Options options = parse(argc, argv);
  const bool is_client = !options.settings.host.empty();
  const example::Socket socket(options.settings.host, options.settings.tcp_port);
  const integrity::Orders theirs = socket.exchange(options.orders);
  if (!is_client) options.orders = theirs;
  options.settings.unreliable = options.orders.unreliable != 0;
  options.settings.use_srq = options.orders.use_srq != 0;
  integrity::Session session(options.settings, socket, options.orders, is_client);

  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(options.seconds);
  for (bool go_on = true; session.play_round(go_on);) {
    if (!is_client) continue;  // the client says when it is enough
    // Both sides post about as many.
    go_on = options.operations != 0 ? 2 * sum(session.totals().operations) < options.operations
                                    : Clock::now() < end;
  }
  print_totals(session.totals(), options.orders.seed);
  return 0;
}
