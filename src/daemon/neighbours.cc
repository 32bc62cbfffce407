#include "daemon/neighbours.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include <spdlog/spdlog.h>

#include "daemon/message_socket.h"
#include "daemon/status_json.h"

namespace flexins::daemon {

namespace {

/// Pairs of addresses that are remembered, neighbours or not.
constexpr size_t kNeighboursMax = 256;
constexpr size_t kStrangersMax = 16;
/// A Hello may be lost, or come before the other engine has started.
constexpr uint32_t kHellosMax = 4;
constexpr base::TimeNs kFirstPause = 20 * base::kMillisecond;  ///< four times longer each time
constexpr base::TimeNs kPatience = 2 * base::kSecond;
constexpr base::TimeNs kAbsence = 30 * base::kSecond;

/// Tokens come from the network: how much of one is right must not show in the time that it takes.
bool same(const Secret& a, const Secret& b) {
  uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<uint8_t>(a[i] ^ b[i]);
  return difference == 0;
}

bool say(int socket, NeighbourMessage::Kind kind, const Secret& token,
         const std::vector<base::UniqueFd>& fds = {}) {
  NeighbourMessage message;
  message.ring_version = port::kShmRingVersion;
  message.kind = kind;
  message.token = token;
  return send_message(socket, {reinterpret_cast<const std::byte*>(&message), sizeof message}, fds);
}

/// None: nothing yet. An empty message's `magic` is 0: the connection is of no use any more.
std::optional<NeighbourMessage> hear(int socket, std::vector<base::UniqueFd>& fds) {
  NeighbourMessage message;
  Received got = receive_message(socket, {reinterpret_cast<std::byte*>(&message), sizeof message});
  if (got.status == ReceiveStatus::kNothing) return std::nullopt;
  fds = std::move(got.fds);
  if (got.status == ReceiveStatus::kClosed || got.bytes != sizeof message || got.truncated ||
      message.ring_version != port::kShmRingVersion) {
    message.magic = 0;
  }
  return message;
}

}  // namespace

Neighbours::~Neighbours() {
  if (place_) loop_.remove(place_->listener());
  for (const Stranger& stranger : strangers_) loop_.remove(stranger.socket.get());
}

base::Result<void> Neighbours::start(const std::string& directory, WorkerThread& worker,
                                     port::ShmPort& port) {
  auto place = NeighbourPlace::enter(directory, random_);
  if (!place) return place.error();
  place_.emplace(std::move(place).value());
  worker_ = &worker;
  port_ = &port;
  loop_.add(place_->listener(), EPOLLIN, [this](uint32_t) { accept_some(); });
  return {};
}

void Neighbours::stop() {
  for (const auto& neighbour : neighbours_) give_up(*neighbour, base::kNever);
  neighbours_.clear();
}

size_t Neighbours::size() const {
  return static_cast<size_t>(
      std::count_if(neighbours_.begin(), neighbours_.end(),
                    [](const auto& neighbour) { return neighbour->state == State::kReady; }));
}

Neighbours::Neighbour* Neighbours::find(const wire::IpAddress& local,
                                        const wire::IpAddress& remote) {
  for (const auto& neighbour : neighbours_) {
    if (neighbour->local == local && neighbour->remote == remote) return neighbour.get();
  }
  return nullptr;
}

Neighbours::Neighbour* Neighbours::find_socket(int fd) {
  for (const auto& neighbour : neighbours_) {
    if (neighbour->socket.get() == fd) return neighbour.get();
  }
  return nullptr;
}

Neighbours::Neighbour* Neighbours::make(const wire::IpAddress& local,
                                        const wire::IpAddress& remote) {
  if (neighbours_.size() == kNeighboursMax) {
    const auto absent =
        std::find_if(neighbours_.begin(), neighbours_.end(),
                     [](const auto& neighbour) { return neighbour->state == State::kAbsent; });
    if (absent == neighbours_.end()) return nullptr;
    neighbours_.erase(absent);
  }
  Neighbour& made = *neighbours_.emplace_back(std::make_unique<Neighbour>());
  made.local = local;
  made.remote = remote;
  made.our_token = make_secret(random_);
  return &made;
}

void Neighbours::want(const wire::IpAddress& local, const wire::IpAddress& remote) {
  if (!place_ || remote.is_multicast()) return;
  const base::TimeNs now = monotonic_now();
  Neighbour* neighbour = find(local, remote);
  if (neighbour != nullptr) {
    if (neighbour->state != State::kAbsent || now < neighbour->due) return;
    neighbour->state = State::kAsked;
    neighbour->hellos = 0;
    neighbour->their_token.reset();
    neighbour->our_token = make_secret(random_);
  } else {
    neighbour = make(local, remote);
    if (neighbour == nullptr) return;
  }
  say_hello(*neighbour, now);
}

void Neighbours::say_hello(Neighbour& neighbour, base::TimeNs now) {
  send(neighbour, NeighbourMad::Kind::kHello);
  neighbour.due = now + (kFirstPause << (2 * neighbour.hellos));
  ++neighbour.hellos;
}

void Neighbours::send(const Neighbour& neighbour, NeighbourMad::Kind kind) {
  NeighbourMad mad;
  mad.kind = kind;
  mad.place = place_->secret();
  mad.engine = place_->engine();
  mad.token = neighbour.our_token;
  std::array<std::byte, wire::kMadBytes> bytes;
  emit_neighbour_mad(mad, bytes);
  wire::Path path;
  path.source = neighbour.local;
  path.destination = neighbour.remote;
  worker_->call([&](engine::Engine& engine) {
    // What is lost is sent again in its time.
    [[maybe_unused]] const auto sent = engine.send_mad(path, bytes, monotonic_now());
  });
}

bool Neighbours::on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
                        std::span<const std::byte, wire::kMadBytes> bytes) {
  const auto mad = parse_neighbour_mad(bytes);
  if (!mad) return false;
  if (!place_ || !same(mad->place, place_->secret()) || mad->engine == place_->engine()) {
    return true;
  }
  if (mad->kind == NeighbourMad::Kind::kHello) {
    on_hello(destination, source, *mad);
    return true;
  }
  Neighbour* neighbour = find(destination, source);
  if (neighbour != nullptr && neighbour->state == State::kAsked && !neighbour->their_token) {
    neighbour->their_token = mad->token;
    offer(*neighbour);
  }
  return true;
}

void Neighbours::on_hello(const wire::IpAddress& local, const wire::IpAddress& remote,
                          const NeighbourMad& hello) {
  Neighbour* neighbour = find(local, remote);
  if (neighbour != nullptr) {
    switch (neighbour->state) {
      case State::kReady:
      case State::kOffered: return;
      case State::kGreeted:
        // Our answer may have been lost.
        if (same(*neighbour->their_token, hello.token))
          send(*neighbour, NeighbourMad::Kind::kAnswer);
        return;
      case State::kAsked:
        // Both have asked: the one with the smaller number goes on.
        if (place_->engine() < hello.engine) return;
        give_up(*neighbour, 0);
        break;
      case State::kAbsent: break;
    }
  } else {
    neighbour = make(local, remote);
    if (neighbour == nullptr) return;
  }
  auto socket = place_->connect(hello.engine);
  if (!socket) return give_up(*neighbour, 0);
  neighbour->socket = std::move(socket).value();
  neighbour->state = State::kGreeted;
  neighbour->their_token = hello.token;
  neighbour->our_token = make_secret(random_);
  neighbour->due = monotonic_now() + kPatience;
  loop_.add(neighbour->socket.get(), EPOLLIN,
            [this, fd = neighbour->socket.get()](uint32_t) { serve(fd); });
  if (!say(neighbour->socket.get(), NeighbourMessage::Kind::kGreeting, hello.token)) {
    return give_up(*neighbour, 0);
  }
  send(*neighbour, NeighbourMad::Kind::kAnswer);
}

void Neighbours::accept_some() {
  base::UniqueFd socket(
      ::accept4(place_->listener(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid() || strangers_.size() == kStrangersMax) return;
  const int fd = socket.get();
  strangers_.push_back({std::move(socket), monotonic_now() + kPatience});
  loop_.add(fd, EPOLLIN, [this, fd](uint32_t) { serve_stranger(fd); });
}

void Neighbours::serve_stranger(int fd) {
  const auto stranger = std::find_if(strangers_.begin(), strangers_.end(),
                                     [&](const Stranger& one) { return one.socket.get() == fd; });
  if (stranger == strangers_.end()) return;
  std::vector<base::UniqueFd> fds;
  const auto message = hear(fd, fds);
  if (!message) return;
  loop_.remove(fd);
  base::UniqueFd socket = std::move(stranger->socket);
  strangers_.erase(stranger);
  if (message->magic != NeighbourMessage::kMagic ||
      message->kind != NeighbourMessage::Kind::kGreeting) {
    return;
  }
  for (const auto& neighbour : neighbours_) {
    if (neighbour->state != State::kAsked || neighbour->socket.valid() ||
        !same(neighbour->our_token, message->token)) {
      continue;
    }
    neighbour->socket = std::move(socket);
    loop_.add(fd, EPOLLIN, [this, fd](uint32_t) { serve(fd); });
    return offer(*neighbour);
  }
}

void Neighbours::offer(Neighbour& neighbour) {
  if (!neighbour.socket.valid() || !neighbour.their_token) return;
  std::vector<base::UniqueFd> fds;
  if (auto made = neighbour.way.make(fds); !made) {
    spdlog::warn("no shared memory for a neighbour: {}", made.error().message);
    return give_up(neighbour, monotonic_now() + kAbsence);
  }
  neighbour.state = State::kOffered;
  neighbour.due = monotonic_now() + kPatience;
  if (!say(neighbour.socket.get(), NeighbourMessage::Kind::kOffer, *neighbour.their_token, fds)) {
    give_up(neighbour, 0);
  }
}

void Neighbours::serve(int fd) {
  Neighbour* neighbour = find_socket(fd);
  if (neighbour == nullptr) return;
  std::vector<base::UniqueFd> fds;
  const auto message = hear(fd, fds);
  if (message) on_message(*neighbour, *message, std::move(fds));
}

void Neighbours::on_message(Neighbour& neighbour, const NeighbourMessage& message,
                            std::vector<base::UniqueFd> fds) {
  const bool whole = message.magic == NeighbourMessage::kMagic;
  if (whole && neighbour.state == State::kGreeted &&
      message.kind == NeighbourMessage::Kind::kOffer) {
    return take_offer(neighbour, message, std::move(fds));
  }
  if (whole && neighbour.state == State::kOffered &&
      message.kind == NeighbourMessage::Kind::kAccept) {
    if (auto finished = neighbour.way.finish(std::move(fds)); !finished) {
      spdlog::warn("{}", finished.error().message);
      return give_up(neighbour, monotonic_now() + kAbsence);
    }
    return ready(neighbour);
  }
  // Gone, or nothing that an engine says.
  give_up(neighbour, 0);
}

void Neighbours::take_offer(Neighbour& neighbour, const NeighbourMessage& message,
                            std::vector<base::UniqueFd> fds) {
  std::vector<base::UniqueFd> ours;
  if (!same(message.token, neighbour.our_token)) {
    return give_up(neighbour, monotonic_now() + kAbsence);
  }
  if (auto taken = neighbour.way.take(std::move(fds), ours); !taken) {
    spdlog::warn("{}", taken.error().message);
    return give_up(neighbour, monotonic_now() + kAbsence);
  }
  if (!say(neighbour.socket.get(), NeighbourMessage::Kind::kAccept, {}, ours)) {
    return give_up(neighbour, 0);
  }
  ready(neighbour);
}

void Neighbours::ready(Neighbour& neighbour) {
  auto opened = worker_->call([&](engine::Engine&) {
    return neighbour.way.open(*worker_, *port_, neighbour.local, neighbour.remote);
  });
  if (!opened) {
    spdlog::warn("no way to a neighbour: {}", opened.error().message);
    return give_up(neighbour, monotonic_now() + kAbsence);
  }
  neighbour.state = State::kReady;
  neighbour.due = base::kNever;
  spdlog::info("{} and {} are on one machine: packets go through shared memory",
               gid_text(neighbour.local.bytes), gid_text(neighbour.remote.bytes));
}

void Neighbours::give_up(Neighbour& neighbour, base::TimeNs until) {
  if (neighbour.state == State::kReady) {
    worker_->call([&](engine::Engine&) {
      neighbour.way.shut(*worker_, *port_, neighbour.local, neighbour.remote);
    });
    spdlog::info("the neighbour at {} is gone", gid_text(neighbour.remote.bytes));
  }
  if (neighbour.socket.valid()) loop_.remove(neighbour.socket.get());
  neighbour.socket.reset();
  neighbour.way.close();
  neighbour.their_token.reset();
  neighbour.state = State::kAbsent;
  neighbour.due = until;
}

base::TimeNs Neighbours::look_at_clock(base::TimeNs now) {
  if (!place_) return base::kNever;
  base::TimeNs next = base::kNever;
  for (const auto& neighbour : neighbours_) {
    if (neighbour->state == State::kReady || neighbour->state == State::kAbsent) continue;
    if (neighbour->due <= now) {
      if (neighbour->state == State::kAsked && neighbour->hellos < kHellosMax) {
        say_hello(*neighbour, now);
      } else {
        give_up(*neighbour, now + kAbsence);
        continue;
      }
    }
    next = std::min(next, neighbour->due - now);
  }
  std::erase_if(strangers_, [&](const Stranger& stranger) {
    if (stranger.due > now) return false;
    loop_.remove(stranger.socket.get());
    return true;
  });
  for (const Stranger& stranger : strangers_) next = std::min(next, stranger.due - now);
  return next;
}

}  // namespace flexins::daemon
