#include "daemon/admin_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

#include "daemon/session_server.h"

namespace flexins::daemon {
namespace {

std::string to_line(const nlohmann::json& answer) {
  // Whatever found its way into a string: the answer is valid JSON.
  return answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

AdminServer::~AdminServer() {
  while (!clients_.empty()) close(clients_.begin()->first);
  if (listener_.valid()) loop_.remove(listener_.get());
}

void AdminServer::listen(base::UniqueFd listener) {
  listener_ = std::move(listener);
  loop_.add(listener_.get(), EPOLLIN, [this](uint32_t) { accept_one(); });
}

void AdminServer::accept_one() {
  base::UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid() || clients_.size() >= kMaxClients) return;
  auto peer = peer_credentials(socket.get());
  if (!peer) return;
  const int fd = socket.get();
  clients_.emplace(fd, Client{std::move(socket), *peer, {}, {}});
  loop_.add(fd, EPOLLIN, [this, fd](uint32_t events) { serve(fd, events); });
}

void AdminServer::serve(int fd, uint32_t events) {
  Client& client = clients_.at(fd);
  const bool alive = (events & EPOLLOUT) != 0 ? write_some(client) : read_some(client);
  if (!alive || !answer_lines(client)) return close(fd);
  // A client that does not read its answers is not read from either.
  loop_.change(fd, client.output.empty() ? EPOLLIN : EPOLLOUT);
}

bool AdminServer::read_some(Client& client) {
  char buffer[4096];
  const ssize_t got = ::recv(client.socket.get(), buffer, sizeof buffer, 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  client.input.append(buffer, static_cast<size_t>(got));
  return got > 0;
}

bool AdminServer::answer_lines(Client& client) {
  // One answer at a time: small requests with large answers must not pile up here.
  while (client.output.empty()) {
    const size_t end = client.input.find('\n');
    if (end == std::string::npos) break;
    client.output =
        to_line(admin_.answer(std::string_view(client.input).substr(0, end), client.peer));
    client.input.erase(0, end + 1);
    if (!write_some(client)) return false;
  }
  if (!client.output.empty() || client.input.size() <= kMaxRequestBytes) return true;
  client.output = to_line({{"error", "the request is too long"}, {"errno", EMSGSIZE}});
  write_some(client);
  return false;
}

bool AdminServer::write_some(Client& client) {
  if (client.output.empty()) return true;
  const ssize_t sent = ::send(client.socket.get(), client.output.data(), client.output.size(),
                              MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  client.output.erase(0, static_cast<size_t>(sent));
  return true;
}

void AdminServer::close(int fd) {
  loop_.remove(fd);
  clients_.erase(fd);
}

}  // namespace flexins::daemon
