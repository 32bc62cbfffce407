#include "verbs_pair.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char kUsage[] =
    "verbs_pair [OPTIONS] [HOST CASE…]     without HOST: the server, for one client\n"
    "  -d DEVICE   RDMA device (default: the first)\n"
    "  -6          a GID that is an IPv6 address, and TCP over IPv6\n"
    "  -p PORT     TCP port (default 18600)\n"
    "  -t SECONDS  give up when nothing completes for so long (default 20)\n"
    "CASE: TYPE/OPERATION/SIZE/COUNT/MTU[/FLAG…]\n"
    "  TYPE       rc, uc or ud\n"
    "  OPERATION  send, send_imm, write, write_imm, read, fadd, cas\n"
    "  FLAG       srq, late (receives), lossy (an unreliable service may lose half)\n";

static const char* const kOperations[] = {"send", "send_imm", "write", "write_imm",
                                          "read", "fadd",     "cas"};
static const char* const kFlags[] = {"srq", "late", "lossy"};
enum { kLateMicroseconds = 50000, kConnectTries = 100 };

static uint32_t index_in(const char* const* names, size_t count, const char* name) {
  for (size_t i = 0; name != NULL && i < count; ++i) {
    if (strcmp(names[i], name) == 0) return (uint32_t)i;
  }
  errno = 0;
  die("what is '%s'?", name != NULL ? name : "");
}

static struct Order parse_case(const char* text) {
  static const char* const kTypes[] = {"rc", "uc", "ud"};
  static const enum ibv_qp_type kTypeCodes[] = {IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD};
  struct Order order = {0};
  char* copy = strdup(text);
  char* rest = NULL;
  order.type = kTypeCodes[index_in(kTypes, 3, strtok_r(copy, "/", &rest))];
  order.operation = index_in(kOperations, 7, strtok_r(NULL, "/", &rest));
  uint32_t* const numbers[] = {&order.size, &order.count, &order.mtu};
  for (size_t i = 0; i < 3; ++i) {
    const char* word = strtok_r(NULL, "/", &rest);
    if (word == NULL) die("'%s' says too little", text);
    *numbers[i] = (uint32_t)strtoul(word, NULL, 0);
  }
  for (const char* word = NULL; (word = strtok_r(NULL, "/", &rest)) != NULL;) {
    order.flags |= 1U << index_in(kFlags, 3, word);
  }
  free(copy);
  return order;
}

static void write_all(int fd, const void* from, size_t bytes) {
  for (const char* at = from; bytes > 0;) {
    const ssize_t n = write(fd, at, bytes);
    if (n <= 0) die("the other end has gone");
    at += n;
    bytes -= (size_t)n;
  }
}
/* 0 where the other end has closed. */
static int read_all(int fd, void* to, size_t bytes) {
  for (char* at = to; bytes > 0;) {
    const ssize_t n = read(fd, at, bytes);
    if (n <= 0) return 0;
    at += n;
    bytes -= (size_t)n;
  }
  return 1;
}
static void must_read(int fd, void* to, size_t bytes) {
  if (!read_all(fd, to, bytes)) die("the other end has gone");
}

static int open_tcp(const char* host, const char* port, int family) {
  struct addrinfo wanted = {.ai_family = family, .ai_socktype = SOCK_STREAM};
  struct addrinfo* found = NULL;
  wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | (host == NULL ? AI_PASSIVE : 0);
  if (getaddrinfo(host, port, &wanted, &found) != 0) die("no address %s", host);
  const int one = 1;
  for (int tries = 0;; ++tries) {
    const int fd = socket(family, SOCK_STREAM, 0);
    if (fd < 0) die("socket");
    if (host == NULL) {
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
      if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 1) != 0) die("listen");
      const int peer = accept(fd, NULL, NULL);
      if (peer < 0) die("accept");
      close(fd);
      freeaddrinfo(found);
      setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      return peer;
    }
    if (connect(fd, found->ai_addr, found->ai_addrlen) == 0) {
      freeaddrinfo(found);
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      return fd;
    }
    if (tries == kConnectTries) die("connect to %s", host);
    close(fd);
    usleep(100000);
  }
}

static void serve(const struct Device* device, int fd) {
  struct End end = {.device = device, .is_server = 1};
  while (read_all(fd, &end.order, sizeof end.order)) {
    create_end(&end);
    connect_end(&end, end.order.client);
    const int is_late = (end.order.flags & kLateReceive) != 0;
    if (!is_late) post_receives(&end);
    write_all(fd, end.ours, sizeof end.ours);
    if (is_late) {
      usleep(kLateMicroseconds);
      post_receives(&end);
    }
    char done = 0;
    must_read(fd, &done, sizeof done);  // the client has sent everything
    server_checks(&end);
    write_all(fd, &end.verdict, sizeof end.verdict);
    must_read(fd, &done, sizeof done);  // and needs our answers no more
    destroy_end(&end);
    end = (struct End){.device = device, .is_server = 1};
  }
}

/* Whether all was well. */
static int play(const struct Device* device, int fd, const char* text) {
  struct End end = {.device = device, .order = parse_case(text)};
  const double begin = seconds_now();
  create_end(&end);
  memcpy(end.order.client, end.ours, sizeof end.ours);
  write_all(fd, &end.order, sizeof end.order);
  struct Info server[kQpsMax];
  must_read(fd, server, sizeof server);
  connect_end(&end, server);
  client_plays(&end, server);
  struct Verdict theirs;
  write_all(fd, "", 1);
  must_read(fd, &theirs, sizeof theirs);
  write_all(fd, "", 1);
  destroy_end(&end);
  const uint32_t problems = theirs.problems + end.verdict.problems;
  printf("%-34s %s  %.2f s", text, problems == 0 ? "right" : "WRONG", seconds_now() - begin);
  if ((end.order.flags & kLossy) != 0) printf("  %u arrived", theirs.received);
  if (end.verdict.problems > 0) printf("  client: %s", end.verdict.text);
  if (theirs.problems > 0) printf("  server: %s", theirs.text);
  printf("\n");
  fflush(stdout);
  return problems == 0;
}

int main(int argc, char** argv) {
  const char* name = NULL;
  const char* port = "18600";
  int family = AF_INET;
  struct Device device = {.timeout_s = 20};
  for (int found = 0; (found = getopt(argc, argv, "d:6p:t:h")) != -1;) {
    switch (found) {
      case 'd': name = optarg; break;
      case '6': family = AF_INET6; break;
      case 'p': port = optarg; break;
      case 't': device.timeout_s = strtod(optarg, NULL); break;
      default: fputs(kUsage, found == 'h' ? stdout : stderr); return found == 'h' ? 0 : 2;
    }
  }
  open_device(&device, name, family);
  if (optind == argc) {
    serve(&device, open_tcp(NULL, port, family));
    return 0;
  }
  int wrong = 0;
  const int fd = open_tcp(argv[optind], port, family);
  for (int i = optind + 1; i < argc; ++i) wrong += !play(&device, fd, argv[i]);
  printf("%d cases, %d wrong\n", argc - optind - 1, wrong);
  return wrong != 0;
}
