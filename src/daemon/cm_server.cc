#include "daemon/cm_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <spdlog/spdlog.h>

#include "daemon/message_socket.h"
#include "protocol/messages_cm.h"

namespace flexins::daemon {
namespace {

using protocol::MessageHeader;
using protocol::MessageType;

/// Served in one go, so that no channel keeps the others waiting.
constexpr int kBatch = 16;
/// Programs open a channel per connection if they like it simple. A channel is a descriptor.
constexpr size_t kChannelsMax = 16'384;
constexpr uint32_t kChannelsOfUser = kChannelsMax / 2;
constexpr size_t kMessageBytes = sizeof(protocol::CmCommandRequest);

template <typename Body>
void reply_to(int socket, const MessageHeader& request, Body& body, int status,
              size_t bytes = sizeof(Body)) {
  body.header = {request.type, static_cast<uint16_t>(status), static_cast<uint32_t>(bytes),
                 request.sequence, 0};
  // A program that does not wait for its answer has none.
  [[maybe_unused]] const bool sent =
      send_message(socket, {reinterpret_cast<const std::byte*>(&body), bytes}, {});
}

}  // namespace

CmServer::CmServer(EventLoop& loop, CmBridge& bridge)
    : loop_(loop), bridge_(bridge), buffer_(std::make_unique<std::byte[]>(kMessageBytes)) {
  loop_.add(bridge_.descriptor(), EPOLLIN, [this](uint32_t) { take_mads(); });
}

CmServer::~CmServer() {
  stop_listening();
  loop_.remove(bridge_.descriptor());
  for (const auto& [fd, connection] : connections_) loop_.remove(fd);
}

void CmServer::start(const CmServiceConfig& config, WorkerThread& worker,
                     std::function<bool(const CmBridge::Mad&)> others) {
  worker_ = &worker;
  others_ = std::move(others);
  service_ = std::make_unique<CmService>(config, random_, routes_,
                                         [this](CmChannel& channel) { on_channel_event(channel); });
}

void CmServer::listen(base::UniqueFd listener) {
  listener_ = std::move(listener);
  loop_.add(listener_.get(), EPOLLIN, [this](uint32_t) { accept_some(); });
}

void CmServer::stop_listening() {
  if (!listener_.valid()) return;
  loop_.remove(listener_.get());
  listener_.reset();
}

void CmServer::close_all() {
  while (!connections_.empty()) close(connections_.begin()->first);
}

void CmServer::accept_some() {
  for (int i = 0; i < kBatch; ++i) {
    base::UniqueFd socket(
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) {
      if (errno == EMFILE || errno == ENFILE) {
        spdlog::error("no descriptors left for further channels (see `ulimit -n`)");
      }
      return;
    }
    auto peer = peer_credentials(socket.get());
    if (!peer) continue;
    if (connections_.size() >= kChannelsMax || channels_of_users_[peer->uid] >= kChannelsOfUser) {
      spdlog::warn("pid {} (uid {}) turned away: {} channels in all", peer->pid, peer->uid,
                   connections_.size());
      continue;
    }
    ++channels_of_users_[peer->uid];
    const int fd = socket.get();
    Connection& connection = connections_[fd];
    connection.socket = std::move(socket);
    connection.peer = *peer;
    loop_.add(fd, EPOLLIN, [this, fd](uint32_t events) { serve(fd, events); });
  }
}

void CmServer::serve(int fd, uint32_t events) {
  if ((events & EPOLLOUT) != 0) say(fd);
  Connection& connection = connections_.at(fd);
  for (int i = 0; i < kBatch; ++i) {
    Received received = receive_message(fd, {buffer_.get(), kMessageBytes});
    if (received.status == ReceiveStatus::kNothing) break;
    if (received.status == ReceiveStatus::kClosed) {
      close(fd);
      break;
    }
    // Without a way back, nobody waits for an answer.
    if (received.fds.size() != 1 || received.truncated) continue;
    answer(connection, {buffer_.get(), received.bytes}, received.fds[0].get());
  }
  send_mads();
}

void CmServer::answer(Connection& connection, std::span<const std::byte> message,
                      int reply_socket) {
  MessageHeader header{};
  protocol::EmptyReply refusal{};
  if (message.size() < sizeof header) return;
  std::memcpy(&header, message.data(), sizeof header);
  if (header.length != message.size()) return reply_to(reply_socket, header, refusal, EINVAL);
  const auto type = static_cast<MessageType>(header.type);
  if (type == MessageType::kCmHello && message.size() == sizeof(protocol::CmHelloRequest)) {
    protocol::CmHelloRequest hello;
    std::memcpy(&hello, message.data(), sizeof hello);
    int status = hello.magic != protocol::kMagic                        ? EPROTO
                 : hello.protocol_version != protocol::kProtocolVersion ? EPROTONOSUPPORT
                 : connection.channel != nullptr                        ? EINVAL
                                                                        : 0;
    protocol::CmHelloReply reply{};
    if (status == 0) {
      auto channel = service_->open_channel(connection.peer.uid);
      status = channel ? 0 : channel.error().code;
      if (channel) {
        connection.channel = *channel;
        by_channel_[*channel] = connection.socket.get();
        reply.secret = (*channel)->secret;
      }
    }
    return reply_to(reply_socket, header, reply, status);
  }
  if (connection.channel == nullptr) return reply_to(reply_socket, header, refusal, EPROTO);
  if (type == MessageType::kCmIdentify) {
    protocol::CmHelloReply reply{};
    reply.secret = connection.channel->secret;
    return reply_to(reply_socket, header, reply, 0);
  }
  protocol::CmCommandRequest request{};
  if (type != MessageType::kCmCommand || message.size() < protocol::kCmCommandHeadBytes) {
    return reply_to(reply_socket, header, refusal, EINVAL);
  }
  std::memcpy(&request, message.data(), message.size());
  if (request.input_bytes != message.size() - protocol::kCmCommandHeadBytes) {
    return reply_to(reply_socket, header, refusal, EINVAL);
  }
  auto done = service_->command(*connection.channel, request.command,
                                std::as_bytes(std::span(request.input, request.input_bytes)),
                                request.other, monotonic_now());
  if (!done) {
    spdlog::debug("rdma_cm command {} of pid {}: {} ({})", request.command, connection.peer.pid,
                  done.error().message, std::strerror(done.error().code));
    return reply_to(reply_socket, header, refusal, done.error().code);
  }
  protocol::CmCommandReply reply{};
  reply.output_bytes = static_cast<uint32_t>(done->output.size());
  // Of what was withdrawn, some may not have been told.
  const uint64_t unsaid = std::min<uint64_t>(connection.unsaid, done->withdrawn_events);
  if (request.command != RDMA_USER_CM_CMD_MIGRATE_ID) connection.unsaid -= unsaid;
  reply.withdrawn_events = request.command == RDMA_USER_CM_CMD_MIGRATE_ID
                               ? done->withdrawn_events
                               : done->withdrawn_events - static_cast<uint32_t>(unsaid);
  std::memcpy(reply.output, done->output.data(), done->output.size());
  reply_to(reply_socket, header, reply, 0,
           offsetof(protocol::CmCommandReply, output) + done->output.size());
}

void CmServer::close(int fd) {
  const auto found = connections_.find(fd);
  if (CmChannel* channel = found->second.channel; channel != nullptr) {
    by_channel_.erase(channel);
    service_->close_channel(*channel, monotonic_now());
  }
  --channels_of_users_[found->second.peer.uid];
  loop_.remove(fd);
  connections_.erase(found);
  send_mads();
}

void CmServer::on_channel_event(CmChannel& channel) {
  const auto found = by_channel_.find(&channel);
  if (found == by_channel_.end()) return;
  ++connections_.at(found->second).unsaid;
  say(found->second);
}

void CmServer::say(int fd) {
  Connection& connection = connections_.at(fd);
  const std::byte one{1};
  while (connection.unsaid > 0) {
    if (::send(fd, &one, 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1) break;
    --connection.unsaid;
  }
  loop_.change(fd, connection.unsaid > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void CmServer::take_mads() {
  bridge_.clear();
  CmBridge::Mad mad;
  while (bridge_.take(mad)) {
    if (others_ && others_(mad)) continue;
    if (service_) service_->on_mad(mad.source, mad.destination, mad.bytes, monotonic_now());
  }
  send_mads();
}

void CmServer::send_mads() {
  std::vector<cm::OutgoingMad> mads;
  cm::OutgoingMad mad;
  while (service_ && service_->next_mad(mad)) mads.push_back(mad);
  if (mads.empty()) return;
  worker_->call([&](engine::Engine& engine) {
    for (const cm::OutgoingMad& out : mads) {
      wire::Path path;
      path.source = out.path.local;
      path.destination = out.path.remote;
      path.traffic_class = out.path.traffic_class;
      path.hop_limit = out.path.hop_limit;
      // What is lost is sent again in its time.
      [[maybe_unused]] const auto sent = engine.send_mad(path, out.bytes, monotonic_now());
    }
  });
}

base::TimeNs CmServer::look_at_clock() {
  if (!service_) return base::kNever;
  const base::TimeNs now = monotonic_now();
  if (service_->next_deadline() <= now) {
    service_->on_deadline(now);
    send_mads();
  }
  const base::TimeNs next = service_->next_deadline();
  return next == base::kNever ? base::kNever : next - std::min(next, now);
}

CmCounts CmServer::counts() const { return service_ ? service_->counts() : CmCounts{}; }

std::vector<port::Counter> CmServer::counters() const {
  const cm::Counters c = service_ ? service_->counters() : cm::Counters{};
  return {{"cm_mads_received", c.mads_received},
          {"cm_mads_sent", c.mads_sent},
          {"cm_retransmitted", c.retransmitted},
          {"cm_duplicates_received", c.duplicates_received},
          {"cm_requests_rejected", c.requests_rejected},
          {"cm_drop_malformed", c.drop_malformed},
          {"cm_drop_unsupported", c.drop_unsupported},
          {"cm_drop_unknown_id", c.drop_unknown_id},
          {"cm_drop_wrong_source", c.drop_wrong_source},
          {"cm_drop_wrong_state", c.drop_wrong_state},
          {"cm_drop_backlog", c.drop_backlog},
          {"cm_drop_full", c.drop_full}};
}

}  // namespace flexins::daemon
