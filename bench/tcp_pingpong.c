// Bounces small messages over TCP and prints half of the median round trip, in microseconds: what
// ib_write_lat is compared with. Like that one it polls instead of sleeping.
//
//   tcp_pingpong -n ROUNDS -s BYTES -p PORT [HOST]    without HOST: the other end

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_MAX 4096

static void die(const char* what) {
  fprintf(stderr, "tcp_pingpong: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int open_connection(const char* host, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  const int on = 1;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  if (host != NULL) {
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("HOST must be an IPv4 address");
    if (connect(fd, (struct sockaddr*)&address, sizeof(address)) != 0) die("connect");
  } else {
    const int listener = fd;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr*)&address, sizeof(address)) != 0) die("bind");
    if (listen(listener, 1) != 0) die("listen");
    fd = accept(listener, NULL, NULL);
    if (fd < 0) die("accept");
    close(listener);
  }
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return fd;
}

static void send_message(int fd, const char* message, size_t bytes) {
  if (send(fd, message, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) die("send");
}

static void receive_message(int fd, char* message, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t count = recv(fd, message + done, bytes - done, MSG_DONTWAIT);
    if (count == 0) die("the other end has gone");
    if (count < 0 && errno != EAGAIN && errno != EINTR) die("recv");
    if (count > 0) done += (size_t)count;
    if (count < 0) sched_yield();  // the other end may have no other core
  }
}

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void* left, const void* right) {
  const double difference = *(const double*)left - *(const double*)right;
  return (difference > 0) - (difference < 0);
}

int main(int argc, char** argv) {
  long rounds = 20000;
  size_t bytes = 8;
  int port = 18516;
  for (int found; (found = getopt(argc, argv, "n:s:p:")) != -1;) {
    if (found == 'n') rounds = atol(optarg);
    if (found == 's') bytes = (size_t)atol(optarg);
    if (found == 'p') port = atoi(optarg);
    if (found == '?') return 2;
  }
  if (rounds < 1 || bytes < 1 || bytes > MESSAGE_MAX) return 2;
  const char* host = optind < argc ? argv[optind] : NULL;
  const int fd = open_connection(host, port);

  char message[MESSAGE_MAX] = {0};
  double* times_us = calloc((size_t)rounds, sizeof(double));
  if (times_us == NULL) die("calloc");
  for (long i = 0; i < rounds; ++i) {
    const double start_us = now_us();
    if (host != NULL) send_message(fd, message, bytes);
    receive_message(fd, message, bytes);
    if (host == NULL) send_message(fd, message, bytes);
    times_us[i] = now_us() - start_us;
  }
  qsort(times_us, (size_t)rounds, sizeof(double), compare);
  printf("%ld rounds of %zu bytes: one way %.2f us\n", rounds, bytes, times_us[rounds / 2] / 2);
  free(times_us);
  close(fd);
  return 0;
}
