#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/peer.h"

namespace example {

void fail(const char* format, ...) {
  fflush(stdout);
  fputs("error: ", stderr);
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

namespace {

int accept_one(uint16_t port) {
  const int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) fail("socket: %s", strerror(errno));
  const int on = 1;
  const int off = 0;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  // One socket for clients of both IP versions.
  setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener, 1) != 0) {
    fail("cannot listen on TCP port %u: %s", port, strerror(errno));
  }
  const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) fail("accept: %s", strerror(errno));
  close(listener);
  return fd;
}

int connect_once(const addrinfo* candidates) {
  for (const addrinfo* each = candidates; each != nullptr; each = each->ai_next) {
    const int fd = socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC, each->ai_protocol);
    if (fd < 0) continue;
    if (::connect(fd, each->ai_addr, each->ai_addrlen) == 0) return fd;
    close(fd);
  }
  return -1;
}

int connect_to(const std::string& host, uint16_t port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* candidates = nullptr;
  const int status = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &candidates);
  if (status != 0) fail("%s: %s", host.c_str(), gai_strerror(status));
  int fd = -1;
  for (int attempt = 0; fd < 0 && attempt < 100; ++attempt) {
    if (attempt != 0) usleep(100'000);
    fd = connect_once(candidates);
  }
  freeaddrinfo(candidates);
  if (fd < 0) fail("cannot connect to %s port %u: %s", host.c_str(), port, strerror(errno));
  return fd;
}

}  // namespace

Socket::Socket(const std::string& host, uint16_t port)
    : fd_(host.empty() ? accept_one(port) : connect_to(host, port)) {
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Socket::~Socket() { close(fd_); }

void Socket::send(const void* data, size_t bytes) const {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::send(fd_, next, bytes, MSG_NOSIGNAL);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail("the other program has gone: %s", strerror(errno));
    next += done;
    bytes -= static_cast<size_t>(done);
  }
}

void Socket::receive(void* data, size_t bytes) const {
  char* next = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::recv(fd_, next, bytes, 0);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail("the other program has gone");
    next += done;
    bytes -= static_cast<size_t>(done);
  }
}

}  // namespace example
